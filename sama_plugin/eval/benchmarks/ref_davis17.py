"""Ref-DAVIS17: mean J and F over expressions and all frames, as SAMA and Sa2VA score it.

`--data meta_expressions.json --root JPEGImages`, `mask_dict.json` beside it. Annotation k belongs
to the k-th expression, counted over videos and expression ids sorted as text; `obj_id` is not used.
This is not the official multi-object task of DAVIS (`eval.davis`), whose numbers differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import expressions
from sama_plugin.data.formats.listed_clip import ListedClip, entries_of, load_mask_dictionary
from sama_plugin.data.formats.ref_youtube_vos import check_count
from sama_plugin.data.formats.video_expressions import expressions_of, frame_size, videos
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, count_entries
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import DataError
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.benchmarks.expressions import score_expressions
from sama_plugin.eval.cases import Case
from sama_plugin.eval.scoreboard import Scoreboard

MASKS = True
PUBLISHED = "ref_davis17"
HEADLINE = ("J&F", "corrected")
DICTIONARIES = ("mask_dict.json", "mask_dict.pkl")


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """One sample an expression."""
    library, found = Library(root), videos(data)
    dictionary = load_mask_dictionary(_beside(Path(data)))
    check_count(found, dictionary, data)
    number = 0
    for name in sorted(found):
        video = found[name]
        local = RecordReport(report, str(data), name, count_entries(video, "expressions"))
        first, number = number, number + count_entries(video, "expressions")
        try:
            asked = expressions_of(video)
            stems = sorted(map(str, video["frames"]))
            clip = ListedClip(name, stems, library, frame_size(video))
        except MALFORMED as error:
            local.drop(error)
            continue
        for place, key in enumerate(sorted(asked), first):
            try:
                yield _sample(name, key, asked[key], clip, dictionary, place, data)
            except MALFORMED as error:
                local.drop(error, f"expressions[{key!r}]")
        for remark in clip.remarks:
            local.note(remark)


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    return score_expressions(cases, predictions)


def _sample(
    name: str,
    key: str,
    entry: Mapping[str, Any],
    clip: ListedClip,
    dictionary: Mapping[str, Sequence[Any]],
    number: int,
    data: Union[str, Path],
) -> Sample:
    expression = str(entry["exp"] or "").strip()
    if not expression:
        raise DataError("the expression is empty", reason="empty_expression")
    turn = expressions.turn(expression, clip.track(entries_of(dictionary, number)))
    return Sample(f"{name}#{key}", clip.media, (turn,), source=str(data)).validate()


def _beside(data: Path) -> Path:
    files = [data.with_name(name) for name in DICTIONARIES]
    found = [file for file in files if file.is_file()]
    if not found:
        raise DataError(
            "no masks beside the expressions",
            file=str(data),
            expected=" or ".join(DICTIONARIES),
            reason="missing_file",
        )
    return found[0]
