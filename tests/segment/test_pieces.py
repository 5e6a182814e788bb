"""Groups followed thing by thing: how a mask falls apart, who follows what, and that they are one
object again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sama_plugin.errors import RegionError
from sama_plugin.media.video import open_video
from sama_plugin.segment.base import Prompt, build_segmenter
from sama_plugin.segment.following import ObjectPrompt, TrackOptions
from sama_plugin.segment.pieces import pieces, propagate_pieces, spans
from sama_plugin.segment.propagate import propagate
from sama_plugin.segment.store import FeatureStore

SIZE, FRAMES = 128, 9
COLOURS = {"left": (245, 245, 245), "right": (226, 32, 38)}
CENTRES = {"left": (36, 40), "right": (92, 88)}


@pytest.fixture(scope="module")
def segmenter():
    return build_segmenter("mini")


@pytest.fixture(scope="module")
def clip():
    """A white and a red disc that drift apart on a dark floor; uint8 (9, 128, 128, 3)."""
    rng = np.random.default_rng(0)
    frames = rng.integers(40, 60, (FRAMES, SIZE, SIZE, 3)).astype(np.uint8)
    for frame in range(FRAMES):
        for name in CENTRES:
            frames[frame][disc(name, frame)] = COLOURS[name]
    return frames


def disc(name: str, frame: int) -> np.ndarray:
    x, y = CENTRES[name]
    x += (frame - 4) * (-3 if name == "left" else 3)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return (columns - x) ** 2 + (rows - y) ** 2 < 13**2


def test_pieces_are_connected_and_crumbs_are_left_out():
    mask = np.zeros((100, 100), bool)
    mask[10:30, 10:30] = mask[30:40, 30:40] = True  # they touch at a corner: one piece
    mask[60:70, 60:75] = True
    mask[90:94, 5:9] = True  # under a tenth of the largest
    first, second = pieces(mask)
    assert (first.sum(), second.sum()) == (500, 150)
    assert not (first & second).any() and not first[60:].any()
    assert pieces(np.zeros((8, 8), bool)) == []
    alone = np.zeros((100, 100), bool)
    alone[3, 3] = True
    assert len(pieces(alone)) == 1  # all there is, however small


@pytest.mark.parametrize(
    ("frames", "total", "wanted"),
    [
        ([4], 9, [(0, 8)]),
        ([0, 8], 9, [(0, 4), (5, 8)]),
        ([3, 7, 11], 16, [(0, 5), (6, 9), (10, 15)]),
    ],
)
def test_every_frame_belongs_to_the_nearest_prompted_one(frames, total, wanted):
    assert spans(frames, total) == wanted


def given(*names: str, frame: int) -> torch.Tensor:
    mask = np.any([disc(name, frame) for name in names], axis=0)
    return torch.from_numpy(mask).float()[None, None]


def tubes(results, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """(O, T, 128, 128) masks, and how often each (object, frame) came."""
    masks = np.zeros((objects, FRAMES, SIZE, SIZE), bool)
    times = np.zeros((objects, FRAMES), int)
    for result in results:
        wide = torch.nn.functional.interpolate(result.logits, (SIZE, SIZE), mode="bilinear")
        assert len(result.prompted) == len(result.objects) == len(result.score)
        for row, index in enumerate(result.objects):
            masks[index, result.frame] = wide[row, 0] > 0
            times[index, result.frame] += 1
    return masks, times


def overlap(masks: np.ndarray, *names: str) -> float:
    truth = np.stack([np.any([disc(n, t) for n in names], axis=0) for t in range(FRAMES)])
    return float((masks & truth).sum() / (masks | truth).sum())


def test_a_group_is_followed_better_and_comes_once_a_frame(segmenter, clip):
    objects = [
        ObjectPrompt({0: given("left", "right", frame=0)}),
        ObjectPrompt({4: given("left", frame=4)}),
    ]
    store = FeatureStore(segmenter, open_video(clip))
    whole, _ = tubes(propagate(segmenter, store, objects, FRAMES), 2)
    apart, times = tubes(propagate_pieces(segmenter, store, objects, FRAMES), 2)
    assert (times == 1).all() and store.encodes == FRAMES
    assert (apart[1] == whole[1]).all()  # one piece: nothing changes
    assert overlap(apart[0], "left", "right") > max(0.8, overlap(whole[0], "left", "right"))


def test_without_groups_it_is_propagate(segmenter, clip):
    click = Prompt(points=torch.tensor([[[28.0, 40.0]]]), labels=torch.ones(1, 1).int())
    objects = [ObjectPrompt({0: click, 8: given("left", frame=8)})]
    store = FeatureStore(segmenter, open_video(clip))
    wanted = list(propagate(segmenter, store, objects, FRAMES))
    for one, other in zip(propagate_pieces(segmenter, store, objects, FRAMES), wanted):
        assert (one.frame, one.objects, one.prompted) == (
            other.frame,
            other.objects,
            other.prompted,
        )
        for name in ("logits", "iou", "score", "pointer"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name))


def test_a_span_bounds_where_an_object_is_followed(segmenter, clip):
    objects = [ObjectPrompt({4: given("left", frame=4)}, span=(3, 6))]
    store = FeatureStore(segmenter, open_video(clip))
    found = [result.frame for result in propagate(segmenter, store, objects, FRAMES)]
    assert found == [4, 5, 6, 3]


@pytest.mark.parametrize(("most", "split"), [(3, True), (2, False)])
def test_a_group_that_does_not_fit_is_followed_whole(segmenter, clip, most, split):
    """Two objects; the group's two pieces and the other thing make three."""
    objects = [
        ObjectPrompt({0: given("left", "right", frame=0)}),
        ObjectPrompt({0: given("left", frame=0)}),
    ]
    store, options = FeatureStore(segmenter, open_video(clip)), TrackOptions(most=most)
    whole, _ = tubes(propagate(segmenter, store, objects, FRAMES, options=options), 2)
    found, times = tubes(propagate_pieces(segmenter, store, objects, FRAMES, options=options), 2)
    assert (times == 1).all()
    assert (found[0] != whole[0]).any() == split


def test_what_propagate_refuses_is_refused(segmenter, clip):
    store, one = FeatureStore(segmenter, open_video(clip)), given("left", frame=0)
    with pytest.raises(RegionError, match="3 objects are more than the 2"):
        list(
            propagate_pieces(
                segmenter, store, [ObjectPrompt({0: one})] * 3, FRAMES, options=TrackOptions(most=2)
            )
        )
    with pytest.raises(RegionError, match="prompted on frame.*99"):
        list(propagate_pieces(segmenter, store, [ObjectPrompt({99: one})], FRAMES))
