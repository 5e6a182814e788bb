"""Packaged files: the mini host, segmenter and aggregator, and an adapter, each with its card."""

from __future__ import annotations

from pathlib import Path

from sama_plugin.errors import SamaError

_ROOT = Path(__file__).parent


def asset(name: str) -> Path:
    """Path of a packaged file or folder, e.g. `asset("mini/host")`.

    Raises:
        SamaError: the file is not part of this installation.
    """
    path = _ROOT / name
    if not path.exists():
        raise SamaError(
            f"packaged asset {name!r} is missing ({path}); reinstall sama_plugin or rebuild it "
            "(recipes/mini)"
        )
    return path
