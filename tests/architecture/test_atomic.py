"""Interrupted writes leave nothing under the final name, and what was there before stays."""

from __future__ import annotations

import pytest

from sama_plugin.atomic import atomic_dir, atomic_path, check_writable
from sama_plugin.errors import OutputError


def test_file_appears_whole(tmp_path):
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_interrupted_file_keeps_the_old_one(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_interrupted_folder_keeps_the_old_one(tmp_path, error):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").write_text("old")
    with pytest.raises(error), atomic_dir(tmp_path / "d") as temporary:
        (temporary / "new").write_text("half")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["d"]
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["old"]


def test_folder_is_replaced_whole(tmp_path):
    for content in ("first", "second"):
        with atomic_dir(tmp_path / "d") as temporary:
            (temporary / content).write_text(content)
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["second"]


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to .*file"):
        check_writable(tmp_path / "file" / "below")
