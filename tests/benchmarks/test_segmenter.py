"""The schedules and the stock predictor agree on masks, at the smallest sizes."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from benchmarks import follow_ups, frame_costs, long_conversation, segmenter_schedule, stock_tracker
from sama_plugin.model import generate
from sama_plugin.segment import pieces


def run(module, monkeypatch, *flags: str) -> int:
    monkeypatch.setattr(sys, "argv", [module.__name__, *flags])
    return module.main()


@pytest.mark.parametrize("frames, encodes", [(1, (4, 1)), (3, (12, 3))])
def test_one_schedule_for_all_phrases_gives_the_same_masks(monkeypatch, capsys, frames, encodes):
    flags = ("--frames", str(frames), "--objects", "2")
    assert run(segmenter_schedule, monkeypatch, *flags) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert tuple(int(row[1]) for row in rows[:2]) == encodes


@pytest.mark.parametrize("seed", [0, 3])  # an object that is there, one that is not at first
def test_masks_of_the_stock_predictor(monkeypatch, seed):
    assert run(stock_tracker, monkeypatch, "--frames", "5", "--seed", str(seed)) == 0


def test_other_masks_are_noticed(monkeypatch):
    soft = dataclasses.replace(stock_tracker.LIKE_STOCK, binarise_prompted=False)
    monkeypatch.setattr(stock_tracker, "LIKE_STOCK", soft)
    assert run(stock_tracker, monkeypatch, "--frames", "5") == 1


def test_a_long_conversation_at_the_smallest_size(monkeypatch, capsys):
    monkeypatch.setattr(generate, "_chooser", generate._chooser)  # put back afterwards
    flags = ("--host", "tiny", "--segmenter", "mini", "--frames", "6", "--size", "48", "64")
    flags += ("--objects", "2", "--words", "3")
    assert run(long_conversation, monkeypatch, *flags) == 0
    said = capsys.readouterr().out
    assert said.count("tokens/s") == 2 and said.count("(12 masks)") == 2
    assert "peak memory" in said


def test_follow_ups_read_only_what_is_new(monkeypatch, capsys):
    monkeypatch.setattr(generate, "_chooser", generate._chooser)
    monkeypatch.setattr(pieces, "MOST", pieces.MOST)
    run(follow_ups, monkeypatch, "--frames", "6", "--turns", "2", "--words", "2")
    said = capsys.readouterr().out
    assert "6 frames, encoded (6, 6) times" in said and "2 follow-ups" in said
    assert "masks differ in 0 pixels" in said


def test_what_a_frame_costs_bounds_what_a_session_can_save(monkeypatch, capsys):
    run(frame_costs, monkeypatch, "mini", "--repeats", "3")
    name, *costs, bound = capsys.readouterr().out.splitlines()[-1].split()
    encode, *follow = map(float, costs)
    assert name == "mini" and min(encode, *follow) > 0
    assert float(bound[:-1]) == pytest.approx(1 + encode / sum(follow), abs=0.1)
