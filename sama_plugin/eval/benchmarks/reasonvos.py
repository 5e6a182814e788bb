"""ReasonVOS: expressions whose object has to be inferred; J and F, all test.

`--data meta_expressions.json --root JPEGImages`; masks are palette pictures in
`Annotations/SOURCE_VIDEO_OBJECT/FRAME.png` beside the expressions, any value above 0 the object.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import expressions
from sama_plugin.data.formats.listed_clip import ListedClip
from sama_plugin.data.formats.video_expressions import as_data_error, videos
from sama_plugin.data.library import Library
from sama_plugin.data.report import RecordReport, Report, count_entries
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import DataError
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.benchmarks.expressions import score_expressions
from sama_plugin.eval.cases import Case
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.media import masks
from sama_plugin.media.tracks import MaskTrack

MASKS = True
PUBLISHED = "reasonvos"
HEADLINE = ("J&F", "corrected")


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """One sample an expression, tagged with the dataset its video is from."""
    library = Library(root)
    for name, video in videos(data).items():
        local = RecordReport(report, str(data), name, count_entries(video, "expressions"))
        try:
            stems = sorted(Path(str(frame)).stem for frame in video["frames"])
            clip, source = ListedClip(name, stems, library), str(video["source"]).lower()
            entries = dict(video["expressions"])
        except (DataError, KeyError, TypeError) as error:
            local.drop(as_data_error(error))
            continue
        for key in sorted(entries):
            try:
                folder = (
                    Path(data).parent / "Annotations" / f"{source}_{name}_{_object(entries[key])}"
                )
                turn = expressions.turn(_words(entries[key]), _track(clip, folder))
                yield Sample(
                    f"{name}#{key}", clip.media, (turn,), source=str(data), tags=(source,)
                ).validate()
            except (DataError, KeyError, TypeError) as error:
                local.drop(as_data_error(error), f"expressions[{key!r}]")


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    return score_expressions(cases, predictions)


def _object(entry: Mapping[str, Any]) -> Any:
    return entry["obj_id"]


def _words(entry: Mapping[str, Any]) -> str:
    """The expression, under the name of this benchmark or that of its relatives."""
    text = str(entry.get("exp_text") or entry.get("exp") or "").strip()
    if not text:
        raise DataError("the expression is empty", reason="empty_expression")
    return text


def _track(clip: ListedClip, folder: Path) -> MaskTrack:
    files = [folder / f"{stem}.png" for stem in clip.stems]
    lost = [file for file in files if not file.is_file()]
    if lost:
        raise DataError(
            "an annotation picture is missing", found=str(lost[0]), reason="missing_mask_id"
        )
    return clip.track([masks.encode(masks.read_png(file) > 0) for file in files])
