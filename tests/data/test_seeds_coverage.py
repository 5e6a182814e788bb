"""No seed folder is left unread, so a kept-back folder cannot pass by being ignored."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from . import seed_folders

HERE = Path(__file__).parent


def test_every_folder_is_read_by_some_test(sama_data):
    for file in HERE.glob("test_formats_seeds*.py"):
        importlib.import_module(f"{__package__}.{file.stem}")
    found = seed_folders.folders()
    assert found
    unread = [path.name for path in found if seed_folders.format_of(path) not in seed_folders.READ]
    assert not unread, f"no test reads the seed folders {unread}"


def test_a_kept_back_folder_belongs_to_the_longest_format():
    assert seed_folders.format_of(Path("mevis_hidden")) == "mevis"
    assert seed_folders.format_of(Path("videorefer_bench-2")) == "videorefer_bench"
    assert seed_folders.format_of(Path("mevisual")) is None


@pytest.mark.parametrize(
    "stated, name", [("MeViS", "mevis"), ("VideoRefer-Bench-D and -Q", "videorefer_bench")]
)
def test_a_folder_of_another_name_says_its_format(tmp_path, stated, name):
    (tmp_path / "expected.json").write_text(json.dumps({"format": stated}))
    assert seed_folders.format_of(tmp_path) == name


def test_the_table_names_the_formats_as_the_folders_do(sama_data):
    for folder in seed_folders.folders():
        stated = json.loads((folder / "expected.json").read_text())["format"]
        assert stated.startswith(seed_folders.FORMATS[seed_folders.format_of(folder)])
