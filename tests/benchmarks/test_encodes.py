"""The encode counter: exactly one encode a frame, and a second encode would be noticed."""

from __future__ import annotations

import sys

from benchmarks import encodes
from sama_plugin.segment.store import FeatureStore


def test_every_frame_is_encoded_once(monkeypatch, capsys):
    flags = ["--frames", "1", "5", "--objects", "2", "--turns", "2"]
    monkeypatch.setattr(sys, "argv", ["encodes.py", *flags])
    assert encodes.main() == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1:] == [["1", "2", "2", "1", "1.00", "4"], ["5", "2", "2", "5", "1.00", "20"]]


def test_a_forgetful_store_is_noticed(monkeypatch, capsys):
    monkeypatch.setattr(FeatureStore, "__contains__", lambda self, frame: False)
    monkeypatch.setattr(sys, "argv", ["encodes.py", "--frames", "3", "--objects", "1"])
    assert encodes.main() == 1
