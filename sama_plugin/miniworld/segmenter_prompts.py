"""What a user could have clicked: boxes, points and rough masks drawn from true masks, for the
segmenter's training.

A draw is a pure function of the masks and a NumPy generator. All prompts of one batch have the same
number of point slots (unused ones carry label -1, "not a point"), as the prompt encoder wants.
Labels follow SAM2: 1 inside, 0 outside, 2 and 3 the corners of a box. Used by `segmenter_images.py`
and `segmenter_videos.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PADDING, OUTSIDE, INSIDE, CORNER, OPPOSITE = -1, 0, 1, 2, 3


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of M objects: points (M, P, 2) float32 pixels (x, y), labels (M, P) int32, rough
    masks (M, S, S) or None.

    `rough` holds 0/1 float32; rows of `has_rough` (M,) false are to be ignored.
    """

    points: np.ndarray
    labels: np.ndarray
    rough: np.ndarray
    has_rough: np.ndarray


def draw_prompts(masks: np.ndarray, kinds: list[str], slots: int, rng) -> PromptBatch:
    """Prompts for `masks` (M, S, S) bool, one of each kind "point" | "box" | "points" | "mask" |
    "background".

    "background" is a point or box on nothing of `masks[i]`, which then is the map of where it may
    NOT lie.
    """
    count, size = len(masks), masks.shape[-1]
    points = np.zeros((count, slots, 2), np.float32)
    labels = np.full((count, slots), PADDING, np.int32)
    rough = np.zeros((count, size, size), np.float32)
    for row, (mask, kind) in enumerate(zip(masks, kinds)):
        if kind == "box":
            points[row, :2], labels[row, :2] = _box(mask, rng), (CORNER, OPPOSITE)
        elif kind == "point":
            points[row, 0], labels[row, 0] = _inside(mask, rng), INSIDE
        elif kind == "points":
            points[row], labels[row] = _points(mask, slots, rng)
        elif kind == "mask":
            rough[row] = _rough(mask, rng)
        elif slots >= 2 and rng.random() < 0.6:
            points[row, :2], labels[row, :2] = _empty_box(mask, rng), (CORNER, OPPOSITE)
        else:
            points[row, 0], labels[row, 0] = _inside(~mask, rng), INSIDE
    has_rough = np.array([kind == "mask" for kind in kinds])
    return PromptBatch(points, labels, rough, has_rough)


def box_of(mask: np.ndarray) -> np.ndarray:
    """(S, S) bool to float32 corners ((x0, y0), (x1, y1)), the far ends exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]], np.float32)


def _box(mask: np.ndarray, rng) -> np.ndarray:
    corners = box_of(mask)
    if rng.random() < 0.6:
        extent = corners[1] - corners[0]
        corners = corners + np.clip(rng.normal(0, 0.06, (2, 2)) * extent, -3, 3)
    return corners.astype(np.float32)


def _inside(mask: np.ndarray, rng) -> np.ndarray:
    """One pixel of the mask; half of the time a central one, as people click."""
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return np.array(rng.uniform(0, mask.shape[0], 2), np.float32)
    picks = rng.integers(len(rows), size=6 if rng.random() < 0.5 else 1)
    centre = np.array([columns.mean(), rows.mean()])
    candidates = np.stack([columns[picks], rows[picks]], 1)
    return candidates[((candidates - centre) ** 2).sum(1).argmin()].astype(np.float32)


def _points(mask: np.ndarray, slots: int, rng) -> tuple[np.ndarray, np.ndarray]:
    points = np.zeros((slots, 2), np.float32)
    labels = np.full(slots, PADDING, np.int32)
    inside = int(rng.integers(1, slots + 1))
    outside = int(rng.integers(0, slots - inside + 1))
    for slot in range(inside + outside):
        if slot < inside:
            points[slot], labels[slot] = _inside(mask, rng), INSIDE
        else:
            points[slot], labels[slot] = _near(mask, rng), OUTSIDE
    return points, labels


def _near(mask: np.ndarray, rng) -> np.ndarray:
    """A pixel outside the mask, most often within a dozen pixels of its box."""
    corners = box_of(mask)
    margin = 12 if rng.random() < 0.7 else mask.shape[0]
    low = np.clip(corners[0] - margin, 0, mask.shape[0] - 1)
    high = np.clip(corners[1] + margin, 1, mask.shape[0])
    for _ in range(20):
        x, y = rng.integers(low, high)
        if not mask[y, x]:
            return np.array([x, y], np.float32)
    return _inside(~mask, rng)


def _rough(mask: np.ndarray, rng) -> np.ndarray:
    """The mask shifted by up to two pixels and grown or shrunk by one."""
    shifted = np.roll(mask, tuple(rng.integers(-2, 3, 2)), (0, 1))
    change = rng.integers(3)
    if change:
        stack = [np.roll(shifted, step, axis) for step, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1))]
        shifted = (
            shifted | np.logical_or.reduce(stack)
            if change == 1
            else shifted & np.logical_and.reduce(stack)
        )
    return shifted.astype(np.float32)


def _empty_box(occupied: np.ndarray, rng) -> np.ndarray:
    size = occupied.shape[0]
    for _ in range(20):
        extent = rng.integers(12, 36, 2)
        x, y = rng.integers(0, size - extent)
        if not occupied[y : y + extent[1], x : x + extent[0]].any():
            return np.array([[x, y], [x + extent[0], y + extent[1]]], np.float32)
    return np.stack([_inside(~occupied, rng)] * 2)
