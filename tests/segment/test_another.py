"""A segmenter that has nothing of SAM2, in one file and one line of the registry: the loop, the
stream and the store ask for nothing but the protocol.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sama_plugin.segment.base import SEGMENTERS, Decoded, FrameFeatures, Memory, build_segmenter
from sama_plugin.segment.following import ObjectPrompt
from sama_plugin.segment.store import FeatureStore
from sama_plugin.segment.stream import Stream
from sama_plugin.segment.track import track

from .golden_cases import Frames

SIDE, TOTAL = 64, 7


class Colours:
    """Follows whatever has the colour that lay under the given mask; a pointer is a colour."""

    id, fingerprint = "colours", "colours:0"
    image_size, prompt_dim, memory_frames, pointer_limit = SIDE, 3, 2, 2
    decoder_parameters_unused_by_vectors = ()
    module = nn.Linear(1, 1)

    def preprocess(self, frames: np.ndarray) -> Tensor:
        return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255

    def encode(self, pixels: Tensor) -> FrameFeatures:
        coarse, fine, middle = (F.avg_pool2d(pixels, size) for size in (16, 4, 8))
        return FrameFeatures(coarse, torch.zeros_like(coarse[:1]), (fine, middle))

    def adopt(self, features: FrameFeatures, masks: Tensor) -> Decoded:
        small = F.avg_pool2d(masks, 4)  # (N, 1, 16, 16)
        colour = (features.high_res[0] * small).sum((2, 3)) / small.sum((2, 3))
        return self._decoded(20 * small - 10, colour)

    def decode(self, features: FrameFeatures, prompt, **options) -> Decoded:
        near = features.high_res[0][:, :1]
        return self._decoded(near, near.new_zeros(len(near), 3))

    def remember(self, features: FrameFeatures, logits, score, *, binarise: bool) -> Memory:
        return Memory(features.embedding, features.position)

    def condition(self, features: FrameFeatures, recall) -> FrameFeatures:
        colour = recall.pointers[0][1][:, :, None, None]  # (N, 3, 1, 1), of the prompted frame
        near = 10 - 40 * (features.high_res[0] - colour).abs().mean(1, keepdim=True)
        return FrameFeatures(features.embedding, features.position, (near, features.high_res[1]))

    def to(self, *args, **options) -> Colours:
        return self

    @staticmethod
    def _decoded(logits: Tensor, pointer: Tensor) -> Decoded:
        quality = torch.ones(len(logits))
        score = logits.amax((1, 2, 3))
        return Decoded(logits, logits, quality, quality[:, None], score, pointer)


def build(name: str, weights) -> Colours:
    return Colours()


def squares() -> tuple[np.ndarray, np.ndarray]:
    """A clip (T, H, W, 3) of a red and a blue square that part, and their masks (2, T, H, W)."""
    masks = np.zeros((2, TOTAL, SIDE, SIDE), bool)
    for t in range(TOTAL):
        masks[0, t, 4:20, 4 * t : 4 * t + 16] = True
        masks[1, t, 4 * t + 20 : 4 * t + 36, 40:56] = True
    frames = np.full((TOTAL, SIDE, SIDE, 3), 90, np.uint8)
    frames[masks[0]], frames[masks[1]] = (250, 20, 20), (20, 20, 250)
    return frames, masks


def test_another_segmenter_is_one_file_and_one_line(monkeypatch):
    monkeypatch.setitem(SEGMENTERS._targets, "colours", f"{__name__}:build")
    segmenter, (frames, truth) = build_segmenter("colours"), squares()
    objects = [ObjectPrompt({3: torch.from_numpy(mask[3])[None, None].float()}) for mask in truth]
    store = FeatureStore(segmenter, Frames(frames))
    tracks = track(segmenter, store, objects, (SIDE, SIDE))
    found = np.stack([one.tube(range(TOTAL)) for one in tracks])
    overlap = (found & truth).sum((2, 3)) / (found | truth).sum((2, 3))
    assert overlap.min() > 0.75 and store.encodes == TOTAL

    stream = Stream(segmenter)
    for t, frame in enumerate(frames):
        given = {n: prompt.frames[3] for n, prompt in enumerate(objects)} if t == 3 else None
        result = stream.step(frame, given)
        assert (result is None) == (t < 3)
        if result is not None:
            wide = F.interpolate(result.logits, (SIDE, SIDE), mode="bilinear")[:, 0] > 0
            assert np.array_equal(wide.numpy(), found[:, t])
