"""Features are encoded once, and are the same from memory and from the spill file."""

from __future__ import annotations

import pytest
import torch

from sama_plugin.errors import MediaError
from sama_plugin.segment.store import FeatureStore

from .tiny import noise_video, tiny_segmenter


def levels(features):
    return (features.embedding, features.position, *features.high_res)


@pytest.mark.parametrize("budget_frames", [0, 2, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_budget_gives_the_same_features(budget_frames, dtype):
    segmenter, video = tiny_segmenter(), noise_video(5)
    whole = segmenter.encode(segmenter.preprocess(video.array))
    record = sum(x[0].numel() for x in (whole.embedding, *whole.high_res)) * 4
    store = FeatureStore(_Cast(segmenter, dtype), video, budget=budget_frames * record)
    order = [4, 0, 4, 2, 1, 3, 0, 2]
    for frame in order:
        expected = whole.rows(torch.tensor([frame])).to(dtype)
        torch.testing.assert_close(
            levels(store.features(frame)),
            levels(expected),
            atol=1e-2 if dtype is torch.bfloat16 else 1e-5,
            rtol=1e-2 if dtype is torch.bfloat16 else 1e-4,
        )
    assert store.encodes == video.read == 5
    assert store.resident_bytes <= budget_frames * record
    store.close()
    assert 4 not in store


def test_prepare_encodes_only_what_is_missing():
    store = FeatureStore(tiny_segmenter(), noise_video(6), batch=2)
    store.features(3)
    store.prepare([0, 3, 3, 5])
    assert store.encodes == 3 and all(frame in store for frame in (0, 3, 5))


@pytest.mark.parametrize("budget_frames", [0, 2])
def test_dropped_frames_are_encoded_again(budget_frames):
    segmenter, video = tiny_segmenter(), noise_video(5)
    whole = segmenter.encode(segmenter.preprocess(video.array))
    record = sum(x[0].numel() for x in (whole.embedding, *whole.high_res)) * 4
    budget = budget_frames * record
    store = FeatureStore(segmenter, video, budget=budget, overflow="encode")
    store.prepare(range(5))
    for frame in (4, 0, 4, 2, 1, 3, 0, 2):
        expected = whole.rows(torch.tensor([frame]))
        torch.testing.assert_close(
            levels(store.features(frame)), levels(expected), atol=1e-5, rtol=1e-4
        )
        assert store.resident_bytes <= max(budget, record)
    assert store.encodes > 5 and store._file is None


@pytest.mark.parametrize("frame", [-1, 6])
def test_frames_outside_are_refused(frame):
    with pytest.raises(MediaError, match=f"frame {frame} of a video of 6 frames"):
        FeatureStore(tiny_segmenter(), noise_video(6)).features(frame)


class _Cast:
    """The segmenter with features in another type."""

    def __init__(self, segmenter, dtype):
        self.segmenter, self.dtype = segmenter, dtype

    def preprocess(self, frames):
        return self.segmenter.preprocess(frames)

    def encode(self, pixels):
        return self.segmenter.encode(pixels).to(self.dtype)
