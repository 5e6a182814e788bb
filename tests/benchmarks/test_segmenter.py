"""The schedules and the stock predictor agree on masks, at the smallest sizes."""

from __future__ import annotations

import sys

import pytest

from benchmarks import segmenter_schedule, stock_tracker


def run(module, monkeypatch, *flags: str) -> int:
    monkeypatch.setattr(sys, "argv", [module.__name__, *flags])
    return module.main()


@pytest.mark.parametrize("frames, encodes", [(1, (4, 1)), (3, (12, 3))])
def test_one_schedule_for_all_phrases_gives_the_same_masks(monkeypatch, capsys, frames, encodes):
    flags = ("--frames", str(frames), "--objects", "2")
    assert run(segmenter_schedule, monkeypatch, *flags) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert tuple(int(row[1]) for row in rows[:2]) == encodes


def test_masks_of_the_stock_predictor_to_the_last_bit(monkeypatch, capsys):
    assert run(stock_tracker, monkeypatch, "--frames", "5") == 0
    assert "logits differ by 0.0e+00" in capsys.readouterr().out


def test_other_masks_are_noticed(monkeypatch):
    monkeypatch.setattr(stock_tracker, "CLICK", (90.0, 10.0))
    wrong = stock_tracker.ours

    def elsewhere(*args):
        monkeypatch.setattr(stock_tracker, "CLICK", (20.0, 100.0))
        return wrong(*args)

    monkeypatch.setattr(stock_tracker, "ours", elsewhere)
    assert run(stock_tracker, monkeypatch, "--frames", "2") == 1
