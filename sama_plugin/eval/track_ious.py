"""Tube IoU of mask tracks on their run lengths: no mask is decoded, so a question with ten masks
over hundreds of frames costs milliseconds and no memory.

Equal to `tubes.iou_matrix` on decoded tubes.
"""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from sama_plugin.errors import DataError
from sama_plugin.media.masks import RLE, compress
from sama_plugin.media.tracks import MaskTrack


def track_ious(references: Sequence[MaskTrack], predictions: Sequence[MaskTrack]) -> np.ndarray:
    """(references, predictions) IoU summed over the clip; 0 where both are empty.

    A frame that a track says nothing of counts as empty.

    Raises:
        DataError: the tracks have different sizes or numbers of frames.
    """
    shape = len(references), len(predictions)
    if not all(shape):
        return np.zeros(shape)
    _check([*references, *predictions])
    overlap, areas = np.zeros(shape), (np.zeros(shape[0]), np.zeros(shape[1]))
    for frame in range(references[0].total):
        wanted, found = (_present(side, frame) for side in (references, predictions))
        sizes = [_areas(side) for side in (wanted, found)]
        for total, side, size in zip(areas, (wanted, found), sizes):
            total[list(side)] += size
        if wanted and found:
            overlap[np.ix_(list(wanted), list(found))] += _overlaps(wanted, found, *sizes)
    union = areas[0][:, None] + areas[1][None] - overlap
    return np.divide(overlap, union, out=np.zeros(shape), where=union > 0)


def _present(tracks: Sequence[MaskTrack], frame: int) -> dict[int, RLE]:
    """Masks of a frame by the place of their track."""
    entries: list[Optional[RLE]] = [track.rles.get(frame) for track in tracks]
    return {
        place: rle if isinstance(rle["counts"], str) else compress(rle)
        for place, rle in enumerate(entries)
        if rle is not None
    }


def _areas(masks: dict[int, RLE]) -> np.ndarray:
    from pycocotools import mask

    return mask.area(list(masks.values())).astype(float) if masks else np.zeros(0)


def _overlaps(
    wanted: dict[int, RLE], found: dict[int, RLE], areas: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """(W, F) pixels in both, from IoU and areas; whole numbers, so rounding makes them exact."""
    from pycocotools import mask

    ious = mask.iou(list(wanted.values()), list(found.values()), [0] * len(found))
    return np.rint(ious * (areas[:, None] + others[None]) / (1 + ious))


def _check(tracks: Sequence[MaskTrack]) -> None:
    kinds = sorted({(*track.size, track.total) for track in tracks})
    if len(kinds) > 1:
        raise DataError(
            "masks of different clips are compared",
            found=kinds,
            expected="one (height, width, frames)",
            reason="size_mismatch",
        )
