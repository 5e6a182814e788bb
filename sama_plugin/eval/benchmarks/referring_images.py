"""What RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO share: one sentence a case, cIoU and gIoU.

Released (SAMA): the first mask of an answer; a sentence without one is left out of both sums of
cIoU. Corrected: the union of all masks, a sentence without one is an empty mask; this is also what
Sa2VA computes, but for constants of 1e-10 and 1e-5.
"""

from __future__ import annotations

from typing import Iterator, Mapping, Sequence

import numpy as np

from sama_plugin.errors import DataError
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks.expressions import wanted_tracks
from sama_plugin.eval.cases import Case
from sama_plugin.eval.expression_masks import union
from sama_plugin.eval.res import Overlap
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.media.tracks import MaskTrack

_TINY = 1e-5
"""In the denominator of the released gIoU."""


def score_sentences(
    cases: Sequence[Case], predictions: Mapping[str, Prediction]
) -> tuple[Scoreboard, list[tuple[Case, Overlap]]]:
    """cIoU and gIoU in both readings, and the corrected overlaps for what else is to be counted."""
    board, overlaps = Scoreboard(), []
    for case in cases:
        tracks = predictions[case.key].tracks
        first, whole = (_overlap(board, case, found) for found in (tracks[:1], tracks))
        if tracks:
            _add_ciou(board, "released", case, first)
        else:
            board.counts["sentences the released cIoU leaves out"] += 1
        _add_ciou(board, "corrected", case, whole)
        released = first.intersection / (first.union + _TINY) + (first.union == 0)
        for reading, value in (("released", released), ("corrected", whole.iou)):
            board.add("gIoU", reading, case.key, case.video, value)
        overlaps.append((case, whole))
    return board, overlaps


def _add_ciou(board: Scoreboard, reading: str, case: Case, one: Overlap) -> None:
    """Its IoU, weighted by its union: the mean is the ratio of the sums."""
    board.add("cIoU", reading, case.key, case.video, one.iou, weight=one.union)


def _overlap(board: Scoreboard, case: Case, found: Sequence[MaskTrack]) -> Overlap:
    wanted = wanted_tracks(case)
    size = next((track.size for track in (*wanted, *found)), (1, 1))
    wrong = [track for track in found if track.size != size]
    if wrong:
        error = DataError(
            "a predicted mask has another size than its reference",
            found=wrong[0].size,
            expected=size,
            reason="size_mismatch",
        )
        if f"{case.key}: {error}" not in board.faults:
            board.fault(case.key, error)
        found = ()
    masks: Iterator[np.ndarray] = (union(side, [0], size)[0] for side in (wanted, found))
    return Overlap.of(*masks, image=case.key)
