"""No seed folder is left unread, so a kept-back folder cannot pass by being ignored."""

from __future__ import annotations

import importlib
from pathlib import Path

from . import seed_folders

HERE = Path(__file__).parent


def test_every_folder_is_read_by_some_test(sama_data):
    for file in HERE.glob("test_formats_seeds*.py"):
        importlib.import_module(f"{__package__}.{file.stem}")
    found = [path.name for path in seed_folders.folders()]
    assert found
    unread = [name for name in found if seed_folders.format_of(name) not in seed_folders.READ]
    assert not unread, f"no test reads the seed folders {unread}"


def test_a_kept_back_folder_belongs_to_the_longest_format():
    assert seed_folders.format_of("mevis_hidden") == "mevis"
    assert seed_folders.format_of("videorefer_bench-2") == "videorefer_bench"
    assert seed_folders.format_of("mevisual") is None
