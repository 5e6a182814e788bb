"""Losses of the mini segmenter's pre-training: masks, predicted IoU, object score; the best of
three candidates learns.

Masks are compared at 64 pixels, twice the decoder's own resolution, so that a bilinearly upsampled
boundary falls where it should. The three candidates are trained as in SAM (only the best one, with
a small share for all, so that none dies), the single-mask token always. Rows without an object
train the object score alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

ALL_CANDIDATES = 0.1


@dataclass(frozen=True)
class MaskLosses:
    """Scalars; `total` is what is minimised. `iou` is the mean true IoU of the best candidate, for
    the log.
    """

    total: torch.Tensor
    mask: torch.Tensor
    quality: torch.Tensor
    score: torch.Tensor
    iou: torch.Tensor


def mask_losses(
    logits: torch.Tensor,
    quality: torch.Tensor,
    score: torch.Tensor,
    targets: torch.Tensor,
    side: int = 64,
    score_weight: float = 0.5,
) -> MaskLosses:
    """Losses of M prompts.

    Args:
        logits: (M, K, s, s): K = 4 is the single mask and three candidates, 3 the candidates, 1 the
            single mask.
        quality: (M, K) predicted IoU in 0..1. score: (M, 1) object logits.
        targets: (M, S, S) float 0/1; an empty one means that there is no object.
        side: resolution of the comparison in pixels.
    """
    present = targets.flatten(1).any(1)
    object_score = F.binary_cross_entropy_with_logits(score[:, 0].float(), present.float())
    logits, quality = logits[present].float(), quality[present].float()
    targets = F.adaptive_avg_pool2d(targets[present], side)  # (M', side, side)
    small = F.adaptive_avg_pool2d(targets, logits.shape[-1])
    single = 1 if logits.shape[1] == 4 else 0
    candidates = logits[:, single:]
    best = single + _dice(candidates, small).detach().argmin(1)  # (M',)
    rows = torch.arange(len(best), device=best.device)
    chosen = torch.cat([logits[:, :single], logits[rows, best][:, None]], 1)  # (M', 1 or 2, s, s)
    chosen = F.interpolate(chosen, size=(side, side), mode="bilinear", align_corners=False)
    mask = (_cross_entropy(chosen, targets) + _dice(chosen, targets)).mean()
    spread = (_cross_entropy(candidates, small) + _dice(candidates, small)).mean()
    true_iou = _iou(logits, small)  # (M', K)
    match = (quality - true_iou).abs().mean()
    total = 2 * mask + ALL_CANDIDATES * spread + match + score_weight * object_score
    return MaskLosses(total, mask, match, object_score, _iou(chosen[:, -1:], targets).mean())


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(M, K, s, s) against (M, s, s): summed over pixels, relative to the area -> (M, K)."""
    wide = targets[:, None].expand_as(logits)
    loss = F.binary_cross_entropy_with_logits(logits, wide, reduction="none").sum((-1, -2))
    return loss / (4 * targets.sum((-1, -2)) + 16)[:, None]


def _dice(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    probability, targets = logits.sigmoid(), targets[:, None]
    overlap = (probability * targets).sum((-1, -2))
    return 1 - (2 * overlap + 1) / (probability.sum((-1, -2)) + targets.sum((-1, -2)) + 1)


@torch.no_grad()
def _iou(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    shown, true = logits > 0, targets[:, None] > 0.5
    union = (shown | true).sum((-1, -2))
    return (shown & true).sum((-1, -2)) / union.clamp(min=1)
