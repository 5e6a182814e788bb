"""Referring image segmentation: cIoU, gIoU, and for "there is no such thing" N-acc and T-acc.

cIoU is the sum of intersections over the sum of unions, gIoU the mean IoU of sentences. The
released evaluators differ where a model gives no mask at all: SAMA leaves the sentence out of both
sums of cIoU (which flatters a model that refuses), Sa2VA scores an empty mask. The corrected
reading is the latter, without the small constants in the denominators. N-acc and T-acc are those
of gRefCOCO (Liu et al. 2023). Used by RefCOCO/+/g and gRefCOCO.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np

from sama_plugin.errors import DataError


@dataclass(frozen=True)
class Overlap:
    """Pixels of one sentence. `predicted` is False when the model gave no mask (not an empty one);
    `image` groups the sentences of an image."""

    intersection: int
    union: int
    predicted: bool = True
    image: str = ""
    target_area: int = 0
    found_area: int = 0

    @classmethod
    def of(cls, target: np.ndarray, prediction: Optional[np.ndarray], image: str = "") -> Overlap:
        """From masks (H, W) of one size; prediction None where the model gave none."""
        target = target != 0
        found = np.zeros_like(target) if prediction is None else prediction != 0
        if found.shape != target.shape:
            raise DataError(
                "a predicted mask has another size than its reference",
                record=image or None,
                found=found.shape,
                expected=target.shape,
                reason="size_mismatch",
            )
        return cls(
            int((target & found).sum()),
            int((target | found).sum()),
            prediction is not None,
            image,
            int(target.sum()),
            int(found.sum()),
        )

    @property
    def iou(self) -> float:
        """IoU; 1 where both masks are empty."""
        return self.intersection / self.union if self.union else 1.0


def ciou(overlaps: Sequence[Overlap]) -> float:
    """Corrected: a sentence without a prediction is an empty mask; NaN if every union is empty."""
    union = sum(one.union for one in overlaps)
    return sum(one.intersection for one in overlaps) / union if union else float("nan")


def giou(overlaps: Sequence[Overlap]) -> float:
    """Corrected: mean IoU over sentences, 1 where nothing was to be found and nothing was."""
    return float(np.mean([one.iou for one in overlaps])) if overlaps else float("nan")


def ciou_released(overlaps: Sequence[Overlap], *, missing: str) -> float:
    """As the released code computes it.

    Args:
        missing: what a sentence without prediction is: "skipped" (SAMA) or "empty" (Sa2VA).

    Raises:
        DataError: "skipped" and an image without any prediction, where SAMA's script ends with an
            AttributeError.
    """
    if missing not in ("skipped", "empty"):
        raise DataError("unknown reading of cIoU", found=missing, expected="skipped or empty")
    if missing == "skipped":
        images = {one.image for one in overlaps}
        lost = images - {one.image for one in overlaps if one.predicted}
        if lost:
            raise DataError(
                "the released script cannot score an image without any prediction",
                record=min(lost),
                reason="no_prediction",
            )
        overlaps = [one for one in overlaps if one.predicted]
    union = sum(one.union for one in overlaps)
    return sum(one.intersection for one in overlaps) / (union + 1e-10)


def giou_released(overlaps: Sequence[Overlap]) -> float:
    """IoU with 1e-5 in the denominator, 1 where the union is empty; mean over sentences."""
    return float(np.mean([o.intersection / (o.union + 1e-5) + (o.union == 0) for o in overlaps]))


def no_target_accuracy(overlaps: Sequence[Overlap]) -> float:
    """N-acc: share of the sentences about nothing that got no mask or an empty one."""
    return _share(one.found_area == 0 for one in overlaps if one.target_area == 0)


def target_accuracy(overlaps: Sequence[Overlap]) -> float:
    """T-acc: share of the sentences about something that got a mask with pixels."""
    return _share(one.found_area > 0 for one in overlaps if one.target_area > 0)


def _share(hits) -> float:
    hits = list(hits)
    return float(np.mean(hits)) if hits else float("nan")
