"""Square frames to the patch rows Qwen's vision towers read.

Each frame is an image of its own: grid_thw is (1, S / p, S / p), the frame twice along the
tower's temporal patch. Rows come merge block by merge block, so that `merge ** 2` neighbouring
rows become one token and tokens are row-major.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def to_patches(pixels: Tensor, vision: Any) -> tuple[Tensor, Tensor]:
    """(F, 3, S, S) to patch rows (F * (S / p) ** 2, 3 * t * p * p) and grid_thw (F, 3).

    Args:
        vision: the host's vision configuration (patch_size p, temporal_patch_size t,
            spatial_merge_size).
    """
    frames, channels, side, _ = pixels.shape
    patch, merge, times = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    cells = side // patch // merge
    blocks = pixels.reshape(frames, channels, cells, merge, patch, cells, merge, patch)
    blocks = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7)  # (F, h, w, m, m, 3, p, p)
    blocks = blocks.unsqueeze(6).expand(*blocks.shape[:6], times, patch, patch)
    rows = blocks.reshape(frames * (cells * merge) ** 2, channels * times * patch * patch)
    grid = torch.tensor([1, cells * merge, cells * merge], device=pixels.device)
    return rows, grid.expand(frames, 3)
