"""A tiny random SAM2 and moving noise for the tests of this folder."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from sama_plugin.segment.sam2 import Sam2Segmenter
from sama_plugin.segment.sizes import Sam2Sizes, build_sam2

from .golden_cases import Frames

TINY = Sam2Sizes(
    image_size=64,
    embed_dim=8,
    stages=(1, 1, 1, 1),
    global_blocks=(),
    windows=(4, 4, 4, 2),
    background=(4, 4),
    width=32,
    memory_width=8,
    memory_layers=1,
    memory_ffn=32,
)


@cache
def tiny_segmenter(score_bias: float = 0.0) -> Sam2Segmenter:
    """Random weights, the same in every run; `score_bias` shifts all object scores."""
    torch.manual_seed(3)
    module = build_sam2(TINY)
    with torch.no_grad():
        module.sam_mask_decoder.pred_obj_score_head.layers[-1].bias += score_bias
    return Sam2Segmenter("tiny", module)


def noise_video(total: int = 9, height: int = 48, width: int = 80) -> Frames:
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 256, (height, width + total, 3), dtype=np.uint8)
    return Frames(np.stack([canvas[:, t : t + width] for t in range(total)]))
