"""Averages that turn frames into region vectors.

Plain functions, used by the region encoders and `focus.py`. Weighted sums are matrix products: they
are deterministic on every device and accept zero rows, regions or frames.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EMPTY = 1e-8  # added to the area, so that a mask without area gives zeros (released constant)
FAINT = 1e-6  # area every frame has at least when merged, so that a single one is kept as it is


def mask_pool(features: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Average the visual tokens under a soft mask.

    Args:
        features: (M, N, C) visual tokens, one row for each mask.
        weights: (M, N) float in [0, 1], covered area of each visual cell.

    Returns:
        (M, C) averages, zeros where the mask has no area, in the dtype of `features`; and the
        areas (M,) float32 in cells.
    """
    weights = weights.float()
    area = weights.sum(-1)  # (M,)
    share = (weights / (area + EMPTY)[:, None]).to(features.dtype)
    return (share[:, None] @ features).squeeze(1), area  # (M, C), (M,)


def merge_frames(vectors: Tensor, weights: Tensor, owner: Tensor, regions: int) -> Tensor:
    """Average the vectors of the frames of each region.

    Args:
        vectors: (M, C) one vector for each (region, frame) entry.
        weights: (M,) areas; entries without any area count only when the whole region has none.
        owner: (M,) long, region of each entry.
        regions: R.

    Returns:
        (R, C); zeros for a region without entries.
    """
    assign = F.one_hot(owner, max(regions, 1))[:, :regions].T.float()  # (R, M)
    share = assign * (weights.float() + FAINT)  # (R, M)
    share = share / share.sum(-1, keepdim=True).clamp_min(FAINT)
    return share.to(vectors.dtype) @ vectors  # (R, C)


def has_entry(owner: Tensor, regions: int) -> Tensor:
    """(R,) bool: whether any entry belongs to the region."""
    return torch.bincount(owner, minlength=regions)[:regions] > 0
