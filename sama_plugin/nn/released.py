"""Behaviour of the released model that ours replaces, kept so that its checkpoints can be rerun.

Used for `compat: released` and by the golden tests. Region masks were filled boxes resized by
nearest neighbour; prompts without a region got a stray vector added to all their rows (meant to
keep parameters in the graph; scaled by 1e-6 in training, unscaled at inference); a frame's objects
were cut or repeated to a fixed number before the loss.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sama_plugin.nn.region import SamaRegionEncoder

TRAINING_SCALE = 1e-6


def box_filled(masks: Tensor) -> Tensor:
    """(..., H, W) bool masks to their filled tight boxes; an empty mask stays empty."""
    rows, columns = masks.any(-1), masks.any(-2)  # (..., H), (..., W)
    return _between(rows)[..., :, None] & _between(columns)[..., None, :]


def nearest(masks: Tensor, height: int, width: int) -> Tensor:
    """(..., H, W) bool to (..., height, width), source index floor(i * in / out)."""
    flat = masks.flatten(0, -3)[:, None].float()
    small = F.interpolate(flat, (height, width), mode="nearest")
    return small.reshape(*masks.shape[:-2], height, width).bool()


def touched(masks: Tensor, height: int, width: int) -> Tensor:
    """(M, H, W) bool to (M, height, width): cells that a bilinear resize leaves above zero."""
    soft = F.interpolate(masks[:, None].float(), (height, width), mode="bilinear")
    return soft[:, 0] > 0


def covered_cells(masks: Tensor, grid: int) -> list[Tensor]:
    """Sa2VA's region prompt: the visual cells a mask covers, row by row; none for a small one.

    Args:
        masks: (R, H, W) bool.

    Returns:
        R tensors (n,) long into the grid x grid tokens of the last tile.
    """
    return [cells.nonzero()[:, 0] for cells in nearest(masks, grid, grid).flatten(1)]


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


def balanced_objects(predicted: int, wanted: int, size: int, order: Sequence[int]) -> list[int]:
    """Which objects of a frame Sa2VA supervises: exactly `size` of them, the same for predictions
    and masks. Ours supervises all of them and needs no such rule.

    Args:
        predicted, wanted: objects on either side; the surplus is dropped.
        order: a drawn permutation of the objects, read only when there are more than `size`.
    """
    objects = min(predicted, wanted)
    return list(order)[:size] if objects > size else [slot % objects for slot in range(size)]


def masks_by_frame(videos: Sequence[Tensor], frames: Sequence[int]) -> list[Tensor]:
    """Masks stored object after object, one (objects * frames, h, w) a video, to one (objects, h,
    w) for each frame of the batch.
    """
    return [
        masks.unflatten(0, (-1, count))[:, frame]
        for masks, count in zip(videos, frames)
        for frame in range(count)
    ]


def _bare_prompts(prompt_owner: Tensor, region_prompt: Tensor) -> tuple[Tensor, Tensor]:
    has = torch.bincount(region_prompt, minlength=prompt_owner.shape[0]) > 0  # (P,)
    together = prompt_owner[:, None] == prompt_owner  # (P, P)
    return (together & ~has).sum(1).float(), (together & has).any(1)


def _between(marked: Tensor) -> Tensor:
    """(..., n) bool: from the first to the last marked place."""
    ahead = marked.long().cumsum(-1) > 0
    behind = marked.long().flip(-1).cumsum(-1).flip(-1) > 0
    return ahead & behind
