"""ReVOS: J, F, A and R of referring and of reasoning expressions; the total is the mean of both.

`--data meta_expressions_valid_.json --root FOLDER`, with `mask_dict.json` and, for A and R,
`mask_dict_foreground.json` beside it. A is pixel accuracy, R is 1 minus the false positives over
the clip's foreground. Released: SAMA's script on its own 0/255 files, which compares 255 with 1 and
adds up overlapping objects in 8 bits, every expression rounded to two decimals of percent. Rows
with "(Sa2VA)" repeat that project's script, which stores 1.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, Union

from sama_plugin.data.formats import revos
from sama_plugin.data.formats.listed_clip import entries_of, load_mask_dictionary
from sama_plugin.data.formats.segmentations import read_segmentation
from sama_plugin.data.formats.video_expressions import videos
from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import DataError
from sama_plugin.eval import rvos
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.benchmarks.expressions import (
    Found,
    add_absence,
    answered,
    mask_scores,
    scored_frames,
    wanted_tracks,
)
from sama_plugin.eval.cases import Case
from sama_plugin.eval.expression_masks import block_of, in_blocks, union
from sama_plugin.eval.scoreboard import Scoreboard

MASKS = True
PUBLISHED = "revos"
HEADLINE = ("J&F", "corrected")
FOREGROUND, DICTIONARIES = "mask_dict_foreground.json", ("mask_dict.json", "mask_dict.pkl")
STORED = {"": 255, " (Sa2VA)": 1}
"""What the released scripts' prediction files hold for the object."""
Loader = Callable[[str], tuple[Mapping[str, Any], Mapping[str, Sequence[Any]]]]
"""An expressions file to its videos and its mask dictionary."""


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """One sample an expression, tagged "referring", "reasoning" or "no target"."""
    for sample in revos.read(data, root, report=report, expressions_per_sample=1):
        if sample.tags:
            yield sample
        else:
            known = ", ".join(f"{number} ({kind})" for number, kind in revos.KINDS.items())
            place = {"file": str(data), "record": sample.id, "field": "type_id"}
            report.drop(DataError("no known kind", **place, expected=known, reason="bad_field"))


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    board = Scoreboard()
    known = answered(cases, board)
    grounds = _foregrounds(known, board)
    values: dict[tuple[str, str], dict[str, float]] = {}
    load = functools.lru_cache(maxsize=2)(_file)
    for case in known:
        tracks = predictions[case.key].tracks
        ground = grounds.get(case.sample.id.rpartition("#")[0])
        scores = mask_scores(board, case, tracks, ground)
        _keep(values, "corrected", case, _both(scores.means() if scores else dict(J=1, F=1)), "")
        for suffix, stored in STORED.items():
            found = _released(case, load, tracks[:1], ground, stored)
            _keep(values, "released", case, {m: _rounded(v) for m, v in found.items()}, suffix)
        add_absence(board, case, tracks)
    _fill(board, known, values)
    return board


def _keep(values: dict, reading: str, case: Case, found: Mapping[str, float], suffix: str) -> None:
    for measure, value in found.items():
        if not suffix or measure in "AR":  # J and F do not depend on what is stored
            values.setdefault((measure + suffix, reading), {})[case.key] = value


def _fill(board: Scoreboard, cases: Sequence[Case], values: Mapping) -> None:
    """Each kind alone, and the total, in which referring and reasoning weigh the same."""
    for (measure, reading), found in values.items():
        for kind in ("referring", "reasoning"):
            chosen = [case for case in cases if case.kind == kind and case.key in found]
            for case in chosen:
                part = case.key, case.video, found[case.key]
                board.add(f"{measure} {kind}", reading, *part)
                board.add(measure, reading, *part, weight=1 / len(chosen), kind=kind)


def _released(
    case: Case, load: Loader, found: Found, ground: Optional[Sequence[Any]], stored: int
) -> dict[str, float]:
    """One expression as the public scripts read it; masks of another size are no mask."""
    frames, wanted = scored_frames(case, found), wanted_tracks(case)
    if not frames:
        return _both({"J": 1.0, "F": 1.0})
    size = (wanted or list(found))[0].size
    found = [track for track in found if track.size == size]
    objects = block_of(_objects(case, load), size)
    around = None if ground is None else block_of([ground], size)

    def part(places: Sequence[int]) -> rvos.ExpressionScore:
        masks = union(found, [frames[place] for place in places], size)
        if around is None:
            return rvos.score(objects(places), masks)
        return rvos.score_released(objects(places), masks, around(places), stored)

    return _both(in_blocks(len(frames), part).means())


def _objects(case: Case, load: Loader) -> list[list[Any]]:
    """Masks of every object of an expression, one entry a listed frame."""
    video, _, key = case.sample.id.rpartition("#")
    record, dictionary = load(case.sample.source)
    ids = record[video]["expressions"][key].get("anno_id") or ()
    return [[read_segmentation(one) for one in entries_of(dictionary, n)] for n in ids]


def _file(source: str) -> tuple[Mapping[str, Any], Mapping[str, Sequence[Any]]]:
    files = [Path(source).with_name(name) for name in DICTIONARIES]
    return videos(source), load_mask_dictionary(next(file for file in files if file.is_file()))


def _foregrounds(cases: Sequence[Case], board: Scoreboard) -> Mapping[str, Sequence[Any]]:
    """Union of all objects by video; none of A and R without it."""
    file = Path(cases[0].sample.source).with_name(FOREGROUND) if cases else None
    try:
        return revos.foreground(file) if file else {}
    except DataError as error:
        board.missing["A, R"] = f"no {FOREGROUND} beside the expressions ({error})"
        return {}


def _both(means: Mapping[str, float]) -> dict[str, float]:
    return {**means, "J&F": (means["J"] + means["F"]) / 2}


def _rounded(value: float) -> float:
    return round(100 * value, 2) / 100
