"""Records survive being killed; files of other runs are refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sama_plugin.errors import ConfigError, DataError
from sama_plugin.eval.journal import Journal

RUN = {"model": "mini", "data": "abc"}


def write(path, count):
    with Journal(path, RUN) as journal:
        for number in range(len(journal.done), count):
            journal.append({"id": str(number), "value": number * "x"})


@given(cut=st.integers(0, 200))
def test_killed_anywhere_and_resumed(cut, tmp_path_factory):
    folder = tmp_path_factory.mktemp("journal")
    whole, torn = folder / "whole.jsonl", folder / "torn.jsonl"
    write(whole, 5)
    data = whole.read_bytes()
    torn.write_bytes(data[: min(cut, len(data))])
    write(torn, 5)
    assert torn.read_bytes() == data


def test_another_run_is_named(tmp_path):
    write(tmp_path / "a.jsonl", 1)
    with pytest.raises(ConfigError, match="model: 'mini' there, 'big' here"):
        Journal(tmp_path / "a.jsonl", {**RUN, "model": "big"})


def test_repeats_and_damage_are_named(tmp_path):
    file = tmp_path / "a.jsonl"
    write(file, 2)
    with Journal(file, RUN) as journal, pytest.raises(DataError, match="written twice"):
        journal.append({"id": "1"})
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines, lines[-1]]))
    with pytest.raises(DataError, match="line 4"):
        Journal(file, RUN)
    file.write_bytes(lines[0] + b"{broken\n" + lines[1])
    with pytest.raises(DataError, match="line 2.*not JSON"):
        Journal(file, RUN)
    file.write_bytes(json.dumps([1]).encode() + b"\n")
    with pytest.raises(DataError, match="no record"):
        Journal(file, RUN)
