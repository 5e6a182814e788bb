"""The tiny attached host and its grammar, for real files."""

from tests.infer.conftest import grammar, sama  # noqa: F401
