"""The loop's own promises: batching, directions, encode counts, absence, bounded recall."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sama_plugin.errors import RegionError
from sama_plugin.segment import propagate as propagate_module
from sama_plugin.segment.base import Prompt
from sama_plugin.segment.following import STOCK, ObjectPrompt, Track, TrackOptions
from sama_plugin.segment.propagate import propagate
from sama_plugin.segment.store import FeatureStore
from sama_plugin.segment.track import track

from .tiny import noise_video, tiny_segmenter

TOTAL = 9


def box(x0, y0, x1, y1) -> Prompt:
    return Prompt.box(torch.tensor([[x0, y0, x1, y1]], dtype=torch.float32))


def click(*points) -> Prompt:
    labels = torch.ones(1, len(points), dtype=torch.int32)
    return Prompt(torch.tensor([points], dtype=torch.float32), labels)


def vector(seed: int) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    return Prompt(vectors=torch.randn(1, 1, 32, generator=generator))


def given(x0, y0, x1, y1) -> torch.Tensor:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., y0:y1, x0:x1] = 1
    return mask


OBJECTS = [
    ObjectPrompt({0: box(4, 4, 30, 30)}),
    ObjectPrompt({0: box(30, 10, 60, 50)}),
    ObjectPrompt({3: click((20.0, 20.0))}),
    ObjectPrompt({3: vector(1), 7: vector(1)}),
    ObjectPrompt({3: vector(2), 7: vector(2)}),
    ObjectPrompt({5: given(10, 10, 40, 40)}),
    ObjectPrompt({5: given(20, 10, 50, 30), 8: click((5.0, 5.0), (9.0, 9.0))}),
]


def run(objects, options=STOCK, segmenter=None, total=TOTAL, reader=None):
    """Results of every object: {frame: (logits, score, iou)}."""
    segmenter = segmenter or tiny_segmenter(2.0)
    found = [{} for _ in objects]
    store = FeatureStore(segmenter, reader or noise_video(total))
    for result in propagate(segmenter, store, objects, total, options=options):
        for row, index in enumerate(result.objects):
            assert result.frame not in found[index], "a frame came twice"
            found[index][result.frame] = (result.logits[row], result.score[row], result.iou[row])
    return found, store


@pytest.mark.parametrize(
    "options", [STOCK, TrackOptions(batch=2), replace(STOCK, binarise_prompted=False)]
)
def test_batched_objects_equal_objects_alone(options):
    together, _ = run(OBJECTS, options)
    for index, item in enumerate(OBJECTS):
        (alone,), _ = run([item], options)
        assert together[index].keys() == alone.keys()
        for frame, values in alone.items():
            torch.testing.assert_close(together[index][frame], values, atol=2e-4, rtol=1e-4)


class Noted:
    """A video that remembers which frames were read, in order."""

    def __init__(self, video):
        self.video, self.read = video, []

    def __len__(self) -> int:
        return len(self.video)

    def frames(self, indices):
        self.read += indices
        return self.video.frames(indices)


@pytest.mark.parametrize(("ahead", "steps_back"), [(1, 25), (16, 3)])
def test_going_back_reads_forwards_in_blocks(ahead, steps_back, monkeypatch):
    """Every step back costs a video file up to a group of pictures; masks do not depend on it."""
    objects = [ObjectPrompt({30: box(4, 4, 30, 30)}), ObjectPrompt({20: vector(1)}, span=(9, 25))]
    expected, _ = run(objects, total=32)
    monkeypatch.setattr(propagate_module, "AHEAD", ahead)
    found, store = run(objects, total=32, reader=Noted(noise_video(32)))
    read = store.reader.read
    assert store.encodes == len(read) == 32
    assert sum(later < earlier for earlier, later in zip(read, read[1:])) == steps_back
    for index in range(len(objects)):
        for frame, values in expected[index].items():
            assert all(map(torch.equal, found[index][frame], values))


def test_what_nobody_looks_at_is_not_encoded_ahead():
    near = ObjectPrompt({20: box(4, 4, 30, 30)}, span=(18, 21))
    _, store = run([near, ObjectPrompt({3: vector(1)}, span=(2, 3))], total=32)
    assert store.encodes == 4 + 2


def test_order_of_objects_does_not_matter():
    forwards, _ = run(OBJECTS)
    backwards, _ = run(OBJECTS[::-1])
    for index in range(len(OBJECTS)):
        for frame, values in forwards[index].items():
            other = backwards[len(OBJECTS) - 1 - index][frame]
            torch.testing.assert_close(other, values, atol=2e-4, rtol=1e-4)


def test_both_ways_reaches_every_frame_with_one_encode_each():
    found, store = run(OBJECTS)
    assert all(sorted(item) == list(range(TOTAL)) for item in found)
    assert store.encodes == store.reader.read == TOTAL


@pytest.mark.parametrize(
    "directions, expected",
    [(("forward",), {3, 4, 5, 6, 7, 8}), (("backward",), {0, 1, 2, 3})],
)
def test_one_way_reaches_one_side(directions, expected):
    (found,), store = run([OBJECTS[2]], replace(STOCK, directions=directions))
    assert set(found) == expected
    assert store.encodes == len(expected)


def test_empty_keyframes_condition_nothing():
    absent = tiny_segmenter(-30.0)
    empty = ObjectPrompt({2: vector(1)})
    seen = ObjectPrompt({2: vector(1), 5: given(10, 10, 40, 40)})
    only = ObjectPrompt({5: given(10, 10, 40, 40)})
    (nothing, mixed, alone), _ = run([empty, seen, only], TrackOptions(), absent)
    assert sorted(nothing) == list(range(TOTAL))
    assert all((logits < 0).all() and score < 0 for logits, score, _ in nothing.values())
    assert (mixed[2][0] == -1024).all()
    for frame in (5, 6, 7, 8, 4, 3):
        torch.testing.assert_close(mixed[frame], alone[frame], atol=2e-4, rtol=1e-4)


def test_stock_options_remember_empty_keyframes():
    absent = tiny_segmenter(-30.0)
    objects = [ObjectPrompt({2: vector(1), 5: given(10, 10, 40, 40)})]
    (ours,), _ = run(objects, replace(TrackOptions(), blank_absent=False), absent)
    (stock,), _ = run(objects, replace(STOCK, blank_absent=False), absent)
    assert (ours[6][0] - stock[6][0]).abs().max() > 1e-3


def test_recall_is_bounded_and_complete(monkeypatch):
    """Dropping old results changes nothing: a run that never forgets gives the same masks."""
    objects, forget = [ObjectPrompt({12: given(10, 10, 40, 40)})], Track.forget
    (bounded,), _ = run(objects, total=40)
    sizes = []
    monkeypatch.setattr(Track, "forget", lambda track, *_: sizes.append(len(track.visited)))
    (complete,), _ = run(objects, total=40)

    def counted(track, *where):
        forget(track, *where)
        sizes.append(-len(track.visited))

    monkeypatch.setattr(Track, "forget", counted)
    run(objects, total=40)
    assert max(sizes) == 39 and -min(sizes) <= 2 * 16
    for frame, values in complete.items():
        torch.testing.assert_close(bounded[frame], values, atol=0, rtol=0)


def test_decoded_elsewhere_is_taken_as_it_is():
    segmenter = tiny_segmenter(2.0)
    store = FeatureStore(segmenter, noise_video(TOTAL))
    prompt = vector(4)
    decoded = segmenter.decode(store.features(2), prompt)
    (inside,), _ = run([ObjectPrompt({2: prompt})])
    (outside,), _ = run([ObjectPrompt({2: decoded})])
    for frame, values in inside.items():
        torch.testing.assert_close(outside[frame], values, atol=1e-5, rtol=1e-5)


def test_tracks_hold_masks_scores_and_quality_at_video_size():
    segmenter = tiny_segmenter(2.0)
    store = FeatureStore(segmenter, noise_video(TOTAL))
    tracks = track(segmenter, store, OBJECTS[:2], (48, 80))
    found, _ = run(OBJECTS[:2], TrackOptions())
    for index, one in enumerate(tracks):
        assert one.frames() == tuple(range(TOTAL)) and one.size == (48, 80)
        for frame, (logits, score, iou) in found[index].items():
            wide = torch.nn.functional.interpolate(logits[None], (48, 80), mode="bilinear")[0, 0]
            assert (torch.from_numpy(one.mask(frame)) == (wide > 0)).all()
            assert one.scores[frame] == pytest.approx(float(score), abs=1e-4)
            assert one.ious[frame] == pytest.approx(float(iou), abs=1e-4)


@pytest.mark.parametrize("frames, word", [({}, "not prompted"), ({9: vector(0)}, r"\[9\]")])
def test_bad_objects_are_refused(frames, word):
    with pytest.raises(RegionError, match=word):
        run([ObjectPrompt(frames)])


def test_more_objects_than_the_cap_are_refused_before_anything_is_encoded():
    store = FeatureStore(tiny_segmenter(2.0), noise_video(TOTAL))
    found = propagate(store.segmenter, store, [OBJECTS[0]] * 3, TOTAL, options=TrackOptions(most=2))
    with pytest.raises(RegionError, match="3 objects are more than the 2"):
        next(found)
    assert store.encodes == 0


def test_gradients_stay_enabled_for_the_consumer():
    segmenter = tiny_segmenter(2.0)
    store = FeatureStore(segmenter, noise_video(3))
    for _ in propagate(segmenter, store, OBJECTS[:1], 3):
        assert torch.is_grad_enabled()
