"""J and F, the two measures of the DAVIS protocol, for whole stacks of masks at once.

J is intersection over union; F is the harmonic mean of boundary precision and recall, where a
boundary pixel counts when the other boundary comes within 0.8 % of the image diagonal. Both follow
the public DAVIS 2017 evaluation to the last constant and to the last bit (Perazzi et al. 2016;
Pont-Tuset et al. 2017). Pixels are packed (see `bitmaps`), a few frames are done at a time, and
only the part of the picture where something is. Used by every grounding benchmark.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from sama_plugin.eval import bitmaps

BOUNDARY_TOLERANCE = 0.008  # of the image diagonal, rounded up to whole pixels
AT_ONCE = 8
"""Frames whose surroundings are cut out together."""


def region_similarity(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """J of each frame.

    Args:
        target, prediction: bool (T, H, W).

    Returns:
        (T,) float64; 1 where both masks are empty.
    """
    _check(target, prediction)
    return _overlap(bitmaps.pack(target), bitmaps.pack(prediction))


def boundary_accuracy(
    target: np.ndarray, prediction: np.ndarray, tolerance: float = BOUNDARY_TOLERANCE
) -> np.ndarray:
    """F of each frame.

    Args:
        target, prediction: bool (T, H, W).
        tolerance: share of the diagonal; 1 or more is a number of pixels.

    Returns:
        (T,) float64; 1 where neither mask has a boundary, 0 where only one has.
    """
    _check(target, prediction)
    radius = _radius(target.shape[1:], tolerance)
    return _f(bitmaps.pack(target), bitmaps.pack(prediction), target.shape[2], radius)


def both(target: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(J, F) of each frame, (T,) each, of bool (T, H, W)."""
    _check(target, prediction)
    masks = bitmaps.pack(target), bitmaps.pack(prediction)
    radius = _radius(target.shape[1:], BOUNDARY_TOLERANCE)
    return _overlap(*masks), _f(*masks, target.shape[2], radius)


def every_pair(
    some: Sequence[np.ndarray], others: Sequence[np.ndarray]
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """(J, F), each (T,), of every one of `some` with every one of `others`, bool (T, H, W).

    Masks are packed, outlined and dilated once a mask, not once a pair.
    """
    if not some or not others:
        return [[] for _ in some]
    width, radius = some[0].shape[2], _radius(some[0].shape[1:], BOUNDARY_TOLERANCE)
    masks = [bitmaps.pack(tube) for tube in (*some, *others)]
    lines = [bitmaps.outline(words, width - 1) for words in masks]
    near = [bitmaps.dilate(line, radius) for line in lines]
    sides = range(len(some)), range(len(some), len(masks))
    return [
        [
            (
                _overlap(masks[other], masks[one]),
                _harmonic(lines[one], lines[other], near[one], near[other]),
            )
            for other in sides[1]
        ]
        for one in sides[0]
    ]


def _overlap(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    union = bitmaps.count(target | prediction)
    overlap = bitmaps.count(target & prediction)
    return np.where(union == 0, 1.0, overlap / np.maximum(union, 1))


def _f(target: np.ndarray, prediction: np.ndarray, width: int, radius: int) -> np.ndarray:
    """F of packed masks, block by block."""
    values = np.empty(len(target))
    for start in range(0, len(target), AT_ONCE):
        block = slice(start, start + AT_ONCE)
        pair = target[block], prediction[block]
        rows, numbers = bitmaps.occupied(pair[0] | pair[1], radius + 1)
        last = width - 1 - numbers.start * bitmaps.BITS
        lines = [bitmaps.outline(words[:, rows, numbers], last) for words in pair]
        near = [bitmaps.dilate(line, radius) for line in lines]
        values[block] = _harmonic(lines[1], lines[0], near[1], near[0])
    return values


def _harmonic(
    found: np.ndarray, wanted: np.ndarray, near_found: np.ndarray, near_wanted: np.ndarray
) -> np.ndarray:
    """F from the outlines of prediction and target and their dilations."""
    lengths = bitmaps.count(found), bitmaps.count(wanted)
    precision = _share(bitmaps.count(found & near_wanted), *lengths)
    recall = _share(bitmaps.count(wanted & near_found), *lengths[::-1])
    total = precision + recall
    return np.where(total == 0, 0.0, 2 * precision * recall / np.where(total == 0, 1, total))


def _share(hits: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Share of own boundary pixels that were hit; with no own pixels 1 if the other has some or
    none.
    """
    share = hits / np.maximum(own, 1)
    return np.where(own > 0, np.where(other > 0, share, 0.0), 1.0)


def _radius(size: Sequence[int], tolerance: float) -> int:
    return int(tolerance if tolerance >= 1 else np.ceil(tolerance * np.hypot(*size)))


def _check(target: np.ndarray, prediction: np.ndarray) -> None:
    if target.shape != prediction.shape or target.ndim != 3:
        raise ValueError(
            f"masks should be two (T, H, W) arrays of equal shape, found {target.shape} and "
            f"{prediction.shape}"
        )
