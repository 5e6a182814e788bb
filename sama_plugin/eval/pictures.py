"""Which cases of a run are looked at, and how they are shown: best, worst, and some drawn by lot.

A sheet has a row with the reference and a row with the answer on the same frames; a case without
masks has one row with what the question points at. Used by `page`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Collection, Iterable, Mapping, Sequence

import numpy as np

from sama_plugin.errors import DataError, SamaError
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks.expressions import wanted_tracks
from sama_plugin.eval.cases import Case
from sama_plugin.eval.matching import greedy_admissible
from sama_plugin.eval.track_ious import track_ious
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.media.video import open_video
from sama_plugin.viz.draw import overlay
from sama_plugin.viz.sheet import contact_sheet
from sama_plugin.viz.write import write_jpeg

EACH = 3
FRAMES = 4
SEED = 0


def choose(
    values: Mapping[str, float], telling: Collection[str] = (), each: int = EACH
) -> dict[str, list[str]]:
    """Keys of the best, the worst and some random cases; no case twice. Those of `telling` come
    before all others: a case that asked for no mask and got none is right, but shows nothing.
    """

    def ranked(keys: Iterable[str], sign: int) -> list[str]:
        return sorted(keys, key=lambda key: (key not in telling, sign * values[key], key))

    best = ranked(values, -1)[:each]
    worst = ranked(values.keys() - best, 1)[:each]
    rest = ranked(values.keys() - best - set(worst), -1)
    order = np.random.default_rng(SEED).permutation(len(rest))[:each]
    return {"best": best, "worst": worst, "random": [rest[place] for place in order]}


def draw_case(case: Case, prediction: Prediction, path: Path) -> str:
    """Write the sheet of a case; "" or why there is none."""
    prompts = _prompts(case)
    wanted, found = wanted_tracks(case), list(prediction.tracks)
    try:
        reader = open_video(case.sample.media.source)
    except SamaError as error:
        return str(error)
    try:
        indices = _frames(len(reader), wanted, prompts)
        pictures = reader.frames(indices)
    finally:
        reader.close()
    fitting = [track for track in found if track.size == pictures.shape[1:3]]
    rows, labels = [], []
    colours = {"reference": list(range(len(wanted))), "answer": _colours(wanted, fitting)}
    sides = {"reference": wanted, "answer": fitting} if wanted or fitting else {"": []}
    for side, tracks in sides.items():
        shown = prompts if side != "answer" else {}
        ids = colours.get(side, ())
        drawn = overlay(pictures, tracks, ids=ids, indices=indices, prompts=shown)
        rows += list(drawn)
        labels += [f"{side} · frame {index}".strip(" ·") for index in indices]
    write_jpeg(path, contact_sheet(rows, columns=len(indices), labels=labels, cell=300))
    return ""


def _colours(wanted: Sequence[MaskTrack], found: Sequence[MaskTrack]) -> list[int]:
    """The reference's colour for a mask that lies on it, another one for what lies on nothing."""
    ids = list(range(len(wanted), len(wanted) + len(found)))
    try:
        ious = track_ious(wanted, found)
    except DataError:  # clips of other lengths; the summary counts it
        return ids
    for one, other in greedy_admissible(ious, ious > 0):
        ids[other] = one
    return ids


def _prompts(case: Case) -> dict[str, Sequence[RegionPrompt]]:
    regions = case.sample.turns[-1].regions
    return {region.name or f"r{place}": region.prompts for place, region in enumerate(regions)}


def _frames(
    total: int, wanted: Sequence[MaskTrack], prompts: Mapping[str, Sequence[RegionPrompt]]
) -> list[int]:
    """Midpoints of equal parts of what is annotated, or of the clip, and one pointed frame."""
    known = sorted({frame for track in wanted for frame in track.rles}) or list(range(total))
    chosen = {known[int((i + 0.5) * len(known) / FRAMES)] for i in range(FRAMES)}
    pointed = sorted({prompt.frame for several in prompts.values() for prompt in several})
    if pointed and not chosen & set(pointed):
        chosen = {*sorted(chosen)[1:], pointed[0]}
    return sorted(chosen)
