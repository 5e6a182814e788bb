"""J, F, A and R of one expression from mask tracks, a few frames at a time.

A clip of 300 frames at 720p is a quarter of a gigabyte a mask when it is decoded, so tracks are
decoded in blocks; the values are those of `rvos.score` on whole clips. Used by every referring
video benchmark.
"""

from __future__ import annotations

from typing import Callable, Optional, Sequence

import numpy as np

from sama_plugin.errors import DataError
from sama_plugin.eval.rvos import MEASURES, ExpressionScore, score
from sama_plugin.media.masks import RLE, decode
from sama_plugin.media.tracks import MaskTrack

AT_ONCE = 8
"""Frames that are decoded at the same time."""

Blocks = Callable[[Sequence[int]], np.ndarray]
"""Masks of some of the scored frames, by their place, (n, H, W)."""


def score_tracks(
    wanted: Sequence[MaskTrack],
    found: Sequence[MaskTrack],
    frames: Sequence[int],
    size: tuple[int, int],
    foreground: Optional[Sequence[Optional[RLE]]] = None,
) -> ExpressionScore:
    """The corrected reading: union of the wanted tracks against the union of the found ones.

    Args:
        frames: source frames that count; a frame that a track says nothing of is empty.
        size: (height, width) of the clip.
        foreground: one mask for each of `frames`, all annotated objects; gives A and R.

    Raises:
        DataError: `size_mismatch`, if a track has another size.
    """
    _check([*wanted, *found], size)
    ground = None if foreground is None else block_of([foreground], size)

    def part(places: Sequence[int]) -> ExpressionScore:
        chosen = [frames[place] for place in places]
        return score(
            union(wanted, chosen, size),
            union(found, chosen, size),
            None if ground is None else ground(places),
        )

    return in_blocks(len(frames), part)


def in_blocks(frames: int, part: Callable[[Sequence[int]], ExpressionScore]) -> ExpressionScore:
    """One score from the scores of consecutive places."""
    parts = [
        part(range(start, min(start + AT_ONCE, frames))) for start in range(0, frames, AT_ONCE)
    ]
    columns = {name: [getattr(one, name) for one in parts] for name in MEASURES}
    return ExpressionScore(
        **{
            name: np.concatenate(values) if all(v is not None for v in values) else None
            for name, values in columns.items()
        }
    )


def union(tracks: Sequence[MaskTrack], frames: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """bool (frames, H, W)."""
    masks = np.zeros((len(frames), *size), bool)
    for track in tracks:
        for place, frame in enumerate(frames):
            rle = track.rles.get(frame)
            if rle is not None:
                masks[place] |= decode(rle)
    return masks


def block_of(lists: Sequence[Sequence[Optional[RLE]]], size: tuple[int, int]) -> Blocks:
    """How many of some objects cover a pixel: uint8 (n, H, W) of the places asked for."""

    def masks(places: Sequence[int]) -> np.ndarray:
        total = np.zeros((len(places), *size), np.uint8)
        for entries in lists:
            for row, place in enumerate(places):
                if place < len(entries) and entries[place] is not None:
                    total[row] += decode(entries[place])
        return total

    return masks


def _check(tracks: Sequence[MaskTrack], size: tuple[int, int]) -> None:
    wrong = sorted({track.size for track in tracks} - {tuple(size)})
    if wrong:
        raise DataError(
            "a mask has another size than its clip",
            found=wrong[0],
            expected=tuple(size),
            reason="size_mismatch",
        )
