"""The packaged mini segmenter segments and follows things on a held-out clip."""

from __future__ import annotations

import numpy as np
import torch

from sama_plugin.miniworld.render import render
from sama_plugin.miniworld.world import sample_clip
from sama_plugin.segment.base import Prompt, build_segmenter
from sama_plugin.segment.following import ObjectPrompt
from sama_plugin.segment.store import FeatureStore
from sama_plugin.segment.track import track

from .golden_cases import Frames


def test_boxes_become_tracks():
    """Far below the card's mean: the clip is fixed, so this can only fail when something broke."""
    clip = sample_clip(70, "heldout")
    frames, visible = render(clip)
    truth = np.stack([visible == index + 1 for index in range(len(clip.things))])  # (O, T, H, W)
    objects = [ObjectPrompt({0: Prompt.box(_box(masks[0]))}) for masks in truth]
    segmenter = build_segmenter("mini")
    store = FeatureStore(segmenter, Frames(frames))
    tracks = track(segmenter, store, objects, frames.shape[1:3])
    assert store.encodes == len(frames)
    found = np.stack([one.tube(range(len(frames))) for one in tracks])
    overlap = (found & truth).sum((2, 3)) / np.maximum((found | truth).sum((2, 3)), 1)
    assert overlap[:, 0].mean() > 0.75
    assert overlap.mean() > 0.6


def _box(mask: np.ndarray) -> torch.Tensor:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    corners = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    return torch.tensor([corners], dtype=torch.float32)
