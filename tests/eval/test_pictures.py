"""Which cases a page shows, and that a mask has the colour of what it lies on."""

from __future__ import annotations

import numpy as np
import pytest

from sama_plugin.eval.pictures import _colours, choose
from sama_plugin.media.tracks import MaskTrack

VALUES = {"a": 1.0, "b": 1.0, "c": 0.5, "d": 0.0, "e": 0.0}


@pytest.mark.parametrize(
    "telling, best, worst",
    [("", "a", "d"), ("bd", "b", "d"), ("ce", "c", "e"), ("bce", "b", "e")],
)
def test_cases_that_show_something_come_first(telling, best, worst):
    assert choose(VALUES, telling, each=1) == {
        "best": [best],
        "worst": [worst],
        "random": choose(VALUES, telling, each=1)["random"],
    }


def test_no_case_is_shown_twice_and_none_is_left_out_of_few():
    chosen = choose(VALUES, each=2)
    assert sorted(key for keys in chosen.values() for key in keys) == sorted(VALUES)


def strip(place, frames=2):
    masks = np.zeros((frames, 4, 12), bool)
    masks[:, :, place : place + 3] = True
    return MaskTrack.from_masks(masks)


@pytest.mark.parametrize(
    "wanted, found, colours",
    [
        ((0, 4, 8), (8, 0), [2, 0]),
        ((0, 4, 8), (4, 5), [1, 4]),  # the second lies best on nothing that is left
        ((0,), (8,), [1]),
        ((), (0, 4), [0, 1]),
        ((0, 4), (), []),
    ],
)
def test_colours_follow_the_reference(wanted, found, colours):
    assert _colours([*map(strip, wanted)], [*map(strip, found)]) == colours


def test_clips_of_other_lengths_have_colours_of_their_own():
    assert _colours([strip(0)], [strip(0, frames=3)]) == [1]
