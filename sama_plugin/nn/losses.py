"""Mask losses on sampled points, and the object-score loss.

Binary cross-entropy and Dice are taken at points that are denser where the prediction is unsure
(PointRend; the constants are those of Sa2VA and SAMA), so that the cost does not grow with the
mask and the border counts. All losses are unweighted, fp32 and accept zero masks: the result is
then a zero that keeps its graph.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional as F

COUNT = 1e-4  # added to the number of masks or points, so that zero of them give a zero loss
DICE_SMOOTH = 1.0


def point_sampled_mask_loss(
    logits: Tensor,
    targets: Tensor,
    points: int = 12544,
    oversample: float = 3.0,
    importance: float = 0.75,
    generator: Optional[torch.Generator] = None,
) -> tuple[Tensor, Tensor]:
    """BCE and Dice of S masks at `points` points each.

    Args:
        logits: (S, h, w) mask logits.
        targets: (S, H, W) float in [0, 1]; any size, points are relative.
        points: P, points for each mask.
        oversample: P * oversample random candidates are drawn for the unsure points.
        importance: share of the points that are the most unsure candidates; the rest is random.
        generator: source of the points; None uses torch's own, which a trainer seeds and restores.

    Returns:
        Two scalars, each a mean over masks: BCE (also over points) and Dice.
    """
    logits, targets = logits.float(), targets.float()
    where = uncertain_points(logits.detach(), points, oversample, importance, generator)
    return mask_loss_at(logits, targets, where)


def mask_loss_at(logits: Tensor, targets: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """BCE and Dice at given points `where` (S, P, 2); the rest as in `point_sampled_mask_loss`."""
    found = point_sample(logits, where)  # (S, P)
    wanted = point_sample(targets, where)  # (S, P)
    masks, points = found.shape
    bce = F.binary_cross_entropy_with_logits(found, wanted, reduction="sum")
    return bce / (masks * points + COUNT), dice_loss(found, wanted).sum() / (masks + COUNT)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """(S, P) logits and targets to (S,) losses, smoothed by one in numerator and denominator."""
    chance = logits.sigmoid()
    overlap = 2 * (chance * targets).sum(-1) + DICE_SMOOTH
    return 1 - overlap / (chance.sum(-1) + targets.sum(-1) + DICE_SMOOTH)


def object_score_loss(scores: Tensor, present: Tensor) -> Tensor:
    """Mean BCE of object-presence logits.

    Args:
        scores: (E,) or (E, 1) logits.
        present: (E,) bool, whether the object is on the frame.
    """
    scores = scores.float().reshape(-1)
    loss = F.binary_cross_entropy_with_logits(scores, present.float(), reduction="sum")
    return loss / max(scores.shape[0], 1)


def mask_centres(masks: Tensor) -> Tensor:
    """(E, h, w) masks to their centres (E, 2) as (x, y) in [0, 1]; an empty one has the frame's."""
    masks = masks.float() + 1e-6
    total = masks.sum((1, 2))
    rows, columns = (
        (torch.arange(size, device=masks.device) + 0.5) / size for size in masks.shape[1:]
    )
    x = (masks.sum(1) * columns).sum(1) / total
    y = (masks.sum(2) * rows).sum(1) / total
    return torch.stack([x, y], dim=1)


def click_loss(points: Tensor, masks: Tensor) -> Tensor:
    """How far points (E, 2) in [0, 1] are from the middle of masks (E, h, w), mean over both axes.

    1 is what the middle of the frame scores for objects anywhere. Zero rows give zero.
    """
    missed = (points.float() - mask_centres(masks)).abs().sum()
    return 4 * missed / max(points.numel(), 1)


@torch.no_grad()
def uncertain_points(
    logits: Tensor,
    points: int,
    oversample: float,
    importance: float,
    generator: Optional[torch.Generator] = None,
) -> Tensor:
    """(S, P, 2) points (x, y) in [0, 1]: first the most unsure candidates, then random ones."""
    masks, unsure = logits.shape[0], int(importance * points)

    def draw(count: int) -> Tensor:
        device = logits.device if generator is None else generator.device
        return torch.rand(masks, count, 2, generator=generator, device=device).to(logits.device)

    candidates = draw(max(int(oversample * points), unsure))  # (S, 3P, 2)
    certainty = point_sample(logits, candidates).abs()  # (S, 3P)
    chosen = certainty.topk(unsure, dim=1, largest=False).indices  # (S, .75P)
    kept = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat([kept, draw(points - unsure)], dim=1)


def point_sample(maps: Tensor, where: Tensor) -> Tensor:
    """Bilinear values of (S, h, w) maps at (S, P, 2) points (x, y) in [0, 1]; zero outside.

    Points are relative to the outer edges of the border pixels (`align_corners=False`).
    """
    grid = (2 * where - 1)[:, :, None]  # (S, P, 1, 2)
    return F.grid_sample(maps[:, None], grid, align_corners=False)[:, 0, :, 0]  # (S, P)
