"""Mask tracks: unknown is not empty, and JSON keeps both apart."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sama_plugin.errors import DataError
from sama_plugin.media import masks
from sama_plugin.media.tracks import MaskTrack


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9))))
def test_tracks_keep_masks(tube):
    track = MaskTrack.from_masks(tube)
    assert np.array_equal(track.tube(range(len(tube))), tube)
    again = MaskTrack.from_json(json.loads(json.dumps(track.to_json())))
    assert again == track and np.array_equal(again.tube(range(len(tube))), tube)
    assert [track.area(i) for i in range(len(tube))] == tube.sum((1, 2)).tolist()
    assert track.visible() == tuple(np.flatnonzero(tube.any((1, 2))))


def test_unknown_empty_and_visible_frames():
    blob = np.ones((4, 5), bool)
    track = MaskTrack((4, 5), 9, {6: masks.encode(blob), 2: None}, scores={6: 0.9}, ious={6: 0.5})
    assert track.frames() == (2, 6) and track.visible() == (6,)
    assert not track.mask(2).any() and track.mask(6).all()
    assert (track.area(2), track.area(6), track.area(3)) == (0, 20, None)
    assert track.tube([6, 2, 6]).sum((1, 2)).tolist() == [20, 0, 20]
    assert track.tube([]).shape == (0, 4, 5)
    with pytest.raises(DataError, match="says nothing of this frame"):
        track.mask(3)
    assert MaskTrack.from_json(track.to_json()) == track


def test_sparse_annotation_keeps_its_frames():
    track = MaskTrack.from_masks(np.ones((2, 3, 3), bool), frames=[4, 8], total=20)
    assert track.frames() == (4, 8) and track.total == 20


def test_union_is_known_where_both_are():
    left, right = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    left[:, 0], right[0, 1] = True, True
    one = MaskTrack.from_masks(left)
    two = MaskTrack.from_masks(right)
    one.scores, two.scores = {0: 0.2, 1: 0.7}, {0: 0.6}
    both = one.union(two)
    assert np.array_equal(both.tube([0, 1]), left | right)
    assert both.scores == {0: 0.6, 1: 0.7} and both == two.union(one)
    assert one.union(MaskTrack((4, 4), 2, {1: None})).frames() == (1,)
    assert MaskTrack((4, 4), 2, {1: None}).union(MaskTrack((4, 4), 2, {1: None})).rles == {1: None}
    with pytest.raises(DataError, match="different clips"):
        one.union(MaskTrack((4, 4), 3))


@pytest.mark.parametrize(
    "make",
    [
        lambda: MaskTrack((4, 5), 3, {3: None}),
        lambda: MaskTrack((4, 5), 3, {-1: None}),
        lambda: MaskTrack((5, 4), 3, {0: masks.encode(np.ones((4, 5)))}),
        lambda: MaskTrack.from_masks(np.ones((4, 5))),
        lambda: MaskTrack.from_masks(np.ones((2, 4, 5)), frames=[1]),
        lambda: MaskTrack.from_json({"size": [4, 5]}),
        lambda: MaskTrack.from_json([1]),
        lambda: MaskTrack.from_json({"size": [4, 5], "total": 2, "rles": {"x": None}}),
    ],
)
def test_tracks_that_are_none(make):
    with pytest.raises((DataError, ValueError)):
        make()
