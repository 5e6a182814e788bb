"""J and F, the two measures of the DAVIS protocol, for whole stacks of masks at once.

J is intersection over union; F is the harmonic mean of boundary precision and recall, where a
boundary pixel counts when the other boundary comes within 0.8 % of the image diagonal. Both follow
the public DAVIS 2017 evaluation to the last constant (Perazzi et al. 2016; Pont-Tuset et al. 2017).
Used by every grounding benchmark.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

BOUNDARY_TOLERANCE = 0.008  # of the image diagonal, rounded up to whole pixels


def region_similarity(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """J of each frame.

    Args:
        target, prediction: bool (T, H, W).

    Returns:
        (T,) float64; 1 where both masks are empty.
    """
    _check(target, prediction)
    target, prediction = target.astype(bool), prediction.astype(bool)
    union = (target | prediction).sum((1, 2))
    overlap = (target & prediction).sum((1, 2))
    return np.where(union == 0, 1.0, overlap / np.maximum(union, 1))


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
    radius = tolerance if tolerance >= 1 else np.ceil(tolerance * np.hypot(*target.shape[1:]))
    rows, columns = _occupied(target, prediction, int(radius))
    target, prediction = target[:, rows, columns], prediction[:, rows, columns]
    lines, found = boundary(target), boundary(prediction)
    precision = _share(found & dilate(lines, int(radius)), found, lines)
    recall = _share(lines & dilate(found, int(radius)), lines, found)
    return _harmonic(precision, recall)


def every_pair(
    some: Sequence[np.ndarray], others: Sequence[np.ndarray]
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """(J, F), each (T,), of every one of `some` with every one of `others`, bool (T, H, W).

    Outlines and their dilations are made once a mask, not once a pair.
    """
    tubes = [*some, *others]
    if not tubes:
        return []
    radius = int(np.ceil(BOUNDARY_TOLERANCE * np.hypot(*tubes[0].shape[1:])))
    rows, columns = _occupied(np.logical_or.reduce(tubes), tubes[0], radius)
    small = [tube[:, rows, columns] for tube in tubes]
    lines = [boundary(tube) for tube in small]
    near = [dilate(line, radius) for line in lines]
    pairs = []
    for one in range(len(some)):
        row = []
        for other in range(len(some), len(tubes)):
            precision = _share(lines[one] & near[other], lines[one], lines[other])
            recall = _share(lines[other] & near[one], lines[other], lines[one])
            row.append((region_similarity(small[other], small[one]), _harmonic(precision, recall)))
        pairs.append(row)
    return pairs


def boundary(masks: np.ndarray) -> np.ndarray:
    """Pixels that differ from their right, lower or lower-right neighbour; bool (T, H, W).

    In the last column only the lower neighbour counts, in the last row only the right one.
    """
    masks = masks.astype(bool)
    padded = np.pad(masks, ((0, 0), (0, 1), (0, 1)), mode="edge")
    right, below, diagonal = padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]
    return (masks ^ right) | (masks ^ below) | (masks ^ diagonal)


def dilate(masks: np.ndarray, radius: int) -> np.ndarray:
    """Dilation of bool (T, H, W) by the disk x^2 + y^2 <= radius^2, one run of pixels a disk
    row.
    """
    height = masks.shape[1]
    grown = np.zeros_like(masks)
    for shift in range(radius + 1):
        reach = int(np.sqrt(radius * radius - shift * shift))
        run = _dilate_rows(masks, reach)
        if shift >= height:
            continue
        grown[:, shift:] |= run[:, : height - shift]
        grown[:, : height - shift] |= run[:, shift:]
    return grown


def _dilate_rows(masks: np.ndarray, reach: int) -> np.ndarray:
    """Each set pixel spread `reach` pixels to the left and right."""
    if reach == 0:
        return masks
    width = masks.shape[2]
    counts = np.cumsum(masks, axis=2, dtype=np.int32)
    counts = np.pad(counts, ((0, 0), (0, 0), (1, 0)))  # (T, H, W + 1)
    at = np.arange(width)
    upper, lower = np.minimum(at + reach + 1, width), np.maximum(at - reach, 0)
    return counts[:, :, upper] > counts[:, :, lower]


def _occupied(target: np.ndarray, prediction: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns outside of which nothing can count; the picture's own last row and column
    stay last only if they are occupied, so a margin of one pixel beyond the dilation is kept."""
    anything = (target.astype(bool) | prediction.astype(bool)).any(0)
    spans = []
    for axis, size in ((1, anything.shape[0]), (0, anything.shape[1])):
        used = np.flatnonzero(anything.any(axis))
        first, last = (used[0], used[-1]) if used.size else (0, 0)
        spans.append(slice(max(0, first - margin - 2), min(size, last + margin + 3)))
    return spans[0], spans[1]


def _harmonic(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    total = precision + recall
    return np.where(total == 0, 0.0, 2 * precision * recall / np.where(total == 0, 1, total))


def _share(hits: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Share of own boundary pixels that were hit; with no own pixels 1 if the other has some or
    none.
    """
    number, others = own.sum((1, 2)), other.sum((1, 2))
    share = hits.sum((1, 2)) / np.maximum(number, 1)
    return np.where(number > 0, np.where(others > 0, share, 0.0), 1.0)


def _check(target: np.ndarray, prediction: np.ndarray) -> None:
    if target.shape != prediction.shape or target.ndim != 3:
        raise ValueError(
            f"masks should be two (T, H, W) arrays of equal shape, found {target.shape} and "
            f"{prediction.shape}"
        )
