"""Tube IoU of mask tracks, decoded one frame at a time, so that a question with ten masks over
hundreds of frames costs the memory of one frame. Equal to `tubes.iou_matrix` on decoded tubes.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from sama_plugin.errors import DataError
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
    overlap, areas = np.zeros(shape), [np.zeros(shape[0]), np.zeros(shape[1])]
    for frame in range(references[0].total):
        wanted, found = (_pixels(tracks, frame) for tracks in (references, predictions))
        areas[0] += wanted.sum(1)
        areas[1] += found.sum(1)
        if wanted.any() and found.any():
            overlap += wanted.astype(np.float32) @ found.astype(np.float32).T
    union = areas[0][:, None] + areas[1][None] - overlap
    return np.divide(overlap, union, out=np.zeros(shape), where=union > 0)


def _pixels(tracks: Sequence[MaskTrack], frame: int) -> np.ndarray:
    """bool (tracks, H * W)."""
    empty = np.zeros(tracks[0].size[0] * tracks[0].size[1], bool)
    return np.stack(
        [track.mask(frame).ravel() if frame in track.rles else empty for track in tracks]
    )


def _check(tracks: Sequence[MaskTrack]) -> None:
    kinds = sorted({(*track.size, track.total) for track in tracks})
    if len(kinds) > 1:
        raise DataError(
            "masks of different clips are compared",
            found=kinds,
            expected="one (height, width, frames)",
            reason="size_mismatch",
        )
