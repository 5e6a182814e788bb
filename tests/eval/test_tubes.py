"""Matching of grounded phrases."""

from __future__ import annotations

import numpy as np
import pytest

from sama_plugin.eval.tubes import content, match_tubes, mean_iou, phrase_hits, tube_iou


def tube(*columns):
    masks = np.zeros((2, 4, 8), bool)
    masks[:, :, list(columns)] = True
    return masks


def test_iou_sums_over_frames():
    one, other = tube(0, 1), tube(1, 2)
    other[1] = False
    assert tube_iou(one, other) == pytest.approx(4 / 20)
    assert tube_iou(one & False, one & False) == 0


def test_matching_is_one_to_one_best_first():
    assert match_tubes(np.array([[0.9, 0.8], [0.7, 0.0]])) == [(0, 0, 0.9)]
    assert match_tubes(np.zeros((0, 3))) == []


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ([], [], 1.0),
        ([tube(0)], [], 0.0),
        ([], [tube(0)], 0.0),
        ([tube(0), tube(3)], [tube(3)], 0.5),
        ([tube(3), tube(0)], [tube(0), tube(3)], 1.0),
    ],
)
def test_misses_and_extras_count(found, wanted, expected):
    assert mean_iou(found, wanted) == expected


def test_recall_needs_phrase_and_mask():
    wanted = [("the red circle", tube(0, 1)), ("the blue star", tube(5))]
    assert phrase_hits([("A red circle", tube(0, 1)), ("the blue star", tube(4))], wanted) == 1
    assert phrase_hits([("the blue star", tube(0, 1))], wanted) == 0
    assert content("The red circle.") == {"red", "circle"}
