"""The seed folder a parametrised test reads (see `seed_folders.seeds_of`)."""

from __future__ import annotations

import pytest

from .seed_folders import Seed, load


@pytest.fixture
def seed(request, sama_data) -> Seed:
    """One seed folder with its expectations."""
    folder = sama_data / "seeds" / request.param
    if not folder.is_dir():
        pytest.fail(f"no seed folder {folder}")
    return load(folder, sama_data)
