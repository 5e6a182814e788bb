"""What the referring video benchmarks share: J and F of every expression, one case each.

Released: only the first mask of an answer counts, as in SAMA's script. Corrected: the union of all
masks, which is what an expression about several things asks for. Frames without annotation are left
out; an expression that fits nothing is right if no mask is found (J = F = 1), and N-acc, which the
public protocols do not have, is the share of those.
"""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence, Union

from sama_plugin.errors import DataError
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.cases import Case
from sama_plugin.eval.expression_masks import score_tracks
from sama_plugin.eval.rvos import ExpressionScore
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.media.tracks import MaskTrack

ON_A_SERVER = "no public masks; send the zip to the benchmark's server"
Found = Sequence[MaskTrack]


def score_expressions(cases: Sequence[Case], predictions: Mapping[str, Prediction]) -> Scoreboard:
    """J, F and J&F in both readings, and N-acc; of cases with open questions nothing."""
    board = Scoreboard()
    for case in answered(cases, board):
        tracks = predictions[case.key].tracks
        first = mask_scores(board, case, tracks[:1])
        whole = first if len(tracks) < 2 else mask_scores(board, case, tracks)
        for reading, scores in (("released", first), ("corrected", whole)):
            add_similarity(board, case, reading, scores)
        add_absence(board, case, tracks)
    return board


def answered(cases: Sequence[Case], board: Scoreboard) -> list[Case]:
    """Cases with a reference; says what is not computed where there are others."""
    known = [case for case in cases if case.sample.turns[-1].assistant is not None]
    if len(known) < len(cases):
        board.counts["expressions without public masks"] = len(cases) - len(known)
        board.missing["J, F, J&F"] = ON_A_SERVER
    return known


def wanted_tracks(case: Case) -> list[MaskTrack]:
    """The reference; empty for what is not there."""
    return [t.track for t in case.sample.turns[-1].targets if t.track is not None]


def scored_frames(case: Case, found: Found) -> list[int]:
    """Annotated frames of a case; all that were answered where nothing is annotated."""
    frames = {frame for track in (wanted_tracks(case) or found) for frame in track.rles}
    return sorted(frames)


def mask_scores(
    board: Scoreboard, case: Case, found: Found, foreground: Any = None
) -> Optional[ExpressionScore]:
    """Values a frame; None where nothing was due and nothing came. Tracks of another size are a
    fault of the case and count as no mask."""
    wanted = wanted_tracks(case)
    frames = scored_frames(case, found)
    if not frames:
        return None
    size = (wanted or list(found))[0].size
    try:
        return score_tracks(wanted, found, frames, size, foreground)
    except DataError as error:
        if f"{case.key}: {error}" not in board.faults:
            board.fault(case.key, error)
        return score_tracks(wanted, (), frames, size, foreground)


def add_similarity(
    board: Scoreboard, case: Case, reading: str, scores: Optional[ExpressionScore]
) -> None:
    """J, F and J&F of one expression."""
    means: Mapping[str, Union[int, float]] = scores.means() if scores else {"J": 1, "F": 1}
    both = (means["J"] + means["F"]) / 2
    for metric, value in (("J", means["J"]), ("F", means["F"]), ("J&F", both)):
        board.add(metric, reading, case.key, case.video, value, kind=case.kind)


def add_absence(board: Scoreboard, case: Case, found: Found) -> None:
    """N-acc of an expression about nothing."""
    if not case.sample.turns[-1].targets:
        empty = not any(track.visible() for track in found)
        board.add("N-acc", "offline", case.key, case.video, empty)
