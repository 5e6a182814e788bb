"""The data benchmarks run at a small size and say what they should."""

from __future__ import annotations

import sys

import pytest

from benchmarks import data_check, data_index, data_loader, data_memory


@pytest.fixture
def run(monkeypatch):
    def call(module, *flags):
        monkeypatch.setattr(sys, "argv", [module.__name__, *flags])
        return module.main()

    return call


def test_check_opens_every_clip_once(run, capsys):
    assert run(data_check, "--records", "30", "--media", "3") in (0, 1)
    out = capsys.readouterr().out
    assert "30 samples" in out and "3 clips opened" in out


def test_index(run, capsys):
    assert run(data_index, "--megabytes", "1") in (0, 1)
    assert "index build" in capsys.readouterr().out


def test_memory(run, capsys):
    assert run(data_memory, "--megabytes", "2", "--workers", "1", "--samples", "5") == 0
    assert "costs a worker" in capsys.readouterr().out


def test_loader(run, capsys):
    pytest.importorskip("cv2")
    assert run(data_loader, "--seconds", "2", "--height", "144", "--repeat", "1") in (0, 1)
    assert "encoded" in capsys.readouterr().out
