"""Behaviour of the released model that ours replaces, kept so that its checkpoints can be rerun.

Used with `compat: released`. VideoRefer pooled over the cells that a bilinear resize of the mask
touches; SAMA added a stray vector to all rows of prompts without a region (meant to keep parameters
in the graph; scaled by 1e-6 in training, unscaled at inference). How masks became weights of cells
is `data/regions.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sama_plugin.nn.region import SamaRegionEncoder

TRAINING_SCALE = 1e-6


def touched(masks: Tensor, height: int, width: int) -> Tensor:
    """(M, H, W) bool to (M, height, width): cells that a bilinear resize leaves above zero."""
    soft = F.interpolate(masks[:, None].float(), (height, width), mode="bilinear")
    return soft[:, 0] > 0


def missing_region_row(encoder: SamaRegionEncoder) -> Tensor:
    """(h,) the stray vector: aggregator rows of a region with zero features and an empty mask."""
    width, side = encoder.visual_rows.in_features, encoder.shape_rows.size
    like = encoder.visual_rows.weight
    visual = encoder.visual_rows(like.new_zeros(1, width))
    return (visual + encoder.shape_rows(like.new_zeros(1, side, side)))[0]


def training_scale(prompt_owner: Tensor, region_prompt: Tensor) -> Tensor:
    """(P,) factor of the stray vector in training: 1e-6 for each region-less prompt of the sample,
    or once if the sample has no region at all.

    Args:
        prompt_owner: (P,) long. region_prompt: (R,) long, prompt of each region.
    """
    bare, any_region = _bare_prompts(prompt_owner, region_prompt)
    return TRAINING_SCALE * torch.where(any_region, bare, torch.ones_like(bare))


def inference_scale(prompt_owner: Tensor, region_prompt: Tensor) -> Tensor:
    """(P,) factor of the stray vector at inference: one if the sample has no region, else zero."""
    _, any_region = _bare_prompts(prompt_owner, region_prompt)
    return (~any_region).float()


def _bare_prompts(prompt_owner: Tensor, region_prompt: Tensor) -> tuple[Tensor, Tensor]:
    has = torch.bincount(region_prompt, minlength=prompt_owner.shape[0]) > 0  # (P,)
    together = prompt_owner[:, None] == prompt_owner  # (P, P)
    return (together & ~has).sum(1).float(), (together & has).any(1)
