"""Frames one at a time: the masks of `propagate`, a state that does not grow, save and resume."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sama_plugin.errors import CheckpointError, RegionError
from sama_plugin.segment.following import STOCK, ObjectPrompt
from sama_plugin.segment.propagate import propagate
from sama_plugin.segment.store import FeatureStore
from sama_plugin.segment.stream import Stream

from .test_propagate import box, given, vector
from .tiny import noise_video, tiny_segmenter

FORWARD = replace(STOCK, directions=("forward",))
PROMPTS = {0: {0: box(4, 4, 30, 30), 1: vector(1)}, 3: {2: given(10, 10, 40, 40)}}


def streamed(segmenter, video, stream=None):
    stream = stream or Stream(segmenter, options=FORWARD, total=len(video))
    return stream, [
        stream.step(video.array[frame], PROMPTS.get(frame))
        for frame in range(stream.frame, len(video))
    ]


def test_equals_propagation_forward():
    segmenter, video = tiny_segmenter(2.0), noise_video(9)
    objects = [ObjectPrompt({f: p[n]}) for n in range(3) for f, p in PROMPTS.items() if n in p]
    store = FeatureStore(segmenter, video)
    expected = list(propagate(segmenter, store, objects, 9, options=FORWARD))
    _, found = streamed(segmenter, video)
    for one, other in zip(expected, found):
        assert (one.frame, one.objects, one.prompted) == (
            other.frame,
            other.objects,
            other.prompted,
        )
        for name in ("logits", "iou", "score", "pointer"):
            torch.testing.assert_close(
                getattr(other, name), getattr(one, name), atol=2e-4, rtol=1e-4
            )


def test_a_resumed_stream_goes_on_as_if_nothing_happened(tmp_path):
    segmenter, video = tiny_segmenter(2.0), noise_video(9)
    _, whole = streamed(segmenter, video)
    first = Stream(segmenter, options=FORWARD, total=9)
    for frame in range(5):
        first.step(video.array[frame], PROMPTS.get(frame))
    path = first.save(tmp_path / "state.safetensors")
    second = Stream.resume(path, segmenter)
    assert (second.frame, second.objects, second.options) == (5, 3, FORWARD)
    _, rest = streamed(segmenter, video, second)
    for one, other in zip(whole[5:], rest):
        torch.testing.assert_close(other.logits, one.logits, atol=0, rtol=0)
        torch.testing.assert_close(other.pointer, one.pointer, atol=0, rtol=0)


def test_the_state_stays_as_large_as_the_window(tmp_path):
    segmenter, video = tiny_segmenter(2.0), noise_video(60)
    stream, sizes = Stream(segmenter), []
    for frame in range(60):
        stream.step(video.array[frame], {0: box(4, 4, 30, 30)} if frame == 0 else None)
        if frame in (40, 59):
            sizes.append(stream.save(tmp_path / "state.safetensors").stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 0.01 * sizes[0]


def test_what_cannot_be_streamed_says_why(tmp_path):
    segmenter, video = tiny_segmenter(2.0), noise_video(2)
    stream = Stream(segmenter)
    assert stream.step(video.array[0]) is None
    with pytest.raises(RegionError, match="object 4"):
        stream.step(video.array[1], {4: box(4, 4, 30, 30)})
    stream.options = replace(stream.options, most=1)
    with pytest.raises(RegionError, match="2 objects are more than the 1"):
        stream.step(video.array[1], {0: box(4, 4, 30, 30), 1: box(2, 2, 9, 9)})
    assert (stream.frame, stream.objects) == (1, 0)
    stream.step(video.array[1], {0: box(4, 4, 30, 30)})
    path = stream.save(tmp_path / "state.safetensors")
    with pytest.raises(CheckpointError, match="written with segmenter"):
        Stream.resume(path, tiny_segmenter(-30.0))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="no saved stream"):
        Stream.resume(path, segmenter)
