"""Grounded conversation about images (GLaMM protocol): AP50, mIoU and Recall.

AP is COCO segmentation AP with one category and every score 1. The released mIoU counts matched
pairs only, and an image with an empty mask on both sides is 0 as a whole, because 0/0 wins every
maximum; the corrected one is `tubes.mean_iou`. Recall stops at the first bad pair (`released`) or
uses every admissible pair (`corrected`). Used by GranD-f and, frame by frame, by video GCG.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Mapping, Sequence

import numpy as np

from sama_plugin.errors import DataError
from sama_plugin.eval.matching import greedy_admissible, greedy_until_bad
from sama_plugin.eval.tubes import match_tubes
from sama_plugin.media.masks import RLE, area, compress, decode
from sama_plugin.media.rle import size_of

THRESHOLD = 0.5
AP_NAMES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)


@dataclass(frozen=True)
class Picture:
    """Reference and predicted masks of one image; similarity is (references, predictions)."""

    references: tuple[RLE, ...]
    predictions: tuple[RLE, ...]
    similarity: np.ndarray

    def ious(self) -> np.ndarray:
        """(references, predictions); NaN where both masks are empty."""
        if not self.references or not self.predictions:
            return np.zeros((len(self.references), len(self.predictions)))
        wanted = np.stack([decode(rle).ravel() for rle in self.references]).astype(float)
        found = np.stack([decode(rle).ravel() for rle in self.predictions]).astype(float)
        both = wanted @ found.T
        union = wanted.sum(1)[:, None] + found.sum(1)[None] - both
        return np.divide(both, union, out=np.full(both.shape, np.nan), where=union > 0)


def miou_released(ious: np.ndarray) -> float:
    """Mean over matched pairs of one image; 0 without pairs, and 0 as soon as an IoU is 0/0."""
    if np.isnan(ious).any():
        return 0.0
    matched = [iou for _, _, iou in match_tubes(ious)]
    return float(np.mean(matched)) if matched else 0.0


def miou_corrected(ious: np.ndarray) -> float:
    """Sum of matched IoUs over the larger number of masks; an empty mask found empty is 1."""
    ious = np.where(np.isnan(ious), 1.0, ious)
    largest = max(ious.shape)
    return sum(iou for _, _, iou in match_tubes(ious)) / largest if largest else 1.0


def recalled_released(ious: np.ndarray, similarity: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (reference, prediction), until the first bad one."""
    return greedy_until_bad(np.nan_to_num(ious), similarity, THRESHOLD)


def recalled_corrected(ious: np.ndarray, similarity: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (reference, prediction) among all with IoU and similarity of at least 0.5."""
    ious = np.nan_to_num(ious)
    return greedy_admissible(ious, (ious >= THRESHOLD) & (similarity >= THRESHOLD))


def average_precision(pictures: Mapping[str, Picture]) -> dict[str, float]:
    """COCO segmentation numbers by name; -1 where no object has that size.

    Predictions of equal score rank in the order of images and predictions.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not pictures:
        raise DataError("no image to score", expected="at least one")
    numbers = {name: place for place, name in enumerate(pictures, start=1)}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [_image(numbers[name], picture) for name, picture in pictures.items()],
            "categories": [{"id": 1, "name": "object"}],
            "annotations": _entries(pictures, numbers, "references"),
        }
        truth.createIndex()
        entries = _entries(pictures, numbers, "predictions")
        if not entries:
            return _nothing_found(truth)
        found = truth.loadRes([{**entry, "score": 1.0} for entry in entries])
        evaluation = COCOeval(truth, found, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(AP_NAMES, map(float, evaluation.stats)))


def _image(number: int, picture: Picture) -> dict:
    sizes = [size_of(rle) for rle in (*picture.references, *picture.predictions)]
    height, width = sizes[0] if sizes else (1, 1)
    return {"id": number, "height": height, "width": width}


def _nothing_found(truth) -> dict[str, float]:
    """All 0, or -1 where nothing was to be found either."""
    return {name: 0.0 if truth.anns else -1.0 for name in AP_NAMES}


def _entries(pictures: Mapping[str, Picture], numbers: Mapping[str, int], side: str) -> list[dict]:
    entries = []
    for name, picture in pictures.items():
        masks: Sequence[RLE] = getattr(picture, side)
        for rle in masks:
            # no box: pycocotools would take a prediction's area from it
            entries.append(
                {
                    "id": len(entries) + 1,
                    "image_id": numbers[name],
                    "category_id": 1,
                    "segmentation": compress(rle),
                    "area": float(area(rle)),
                    "iscrowd": 0,
                }
            )
    return entries
