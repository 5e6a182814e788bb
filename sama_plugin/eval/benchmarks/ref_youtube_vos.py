"""Ref-YouTube-VOS: the valid split is scored by its server alone; files with masks are scored here.

`--data meta_expressions.json --root JPEGImages`. With `mask_dict.json` or `Annotations/` beside the
expressions (train, and the mini world) J and F are computed; otherwise `submission.zip` holds
`Annotations/VIDEO/EXPRESSION/FRAME.png`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import ref_youtube_vos, video_expressions
from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.benchmarks.expressions import score_expressions
from sama_plugin.eval.cases import Case
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.eval.submission import write_submission

MASKS = True
PUBLISHED = "ref_youtube_vos"
HEADLINE = ("J&F", "corrected")


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """One sample an expression, named VIDEO#EXPRESSION where it is open."""
    beside = Path(data).parent
    names = ("mask_dict.json", "mask_dict.pkl", "Annotations")
    if any((beside / name).exists() for name in names):
        return ref_youtube_vos.read(data, root, report=report, expressions_per_sample=1)
    return video_expressions.read(data, root, report=report)


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    return score_expressions(cases, predictions)


def submit(cases: Sequence[Case], predictions: Mapping[str, Prediction], path: Path) -> int:
    """Write the zip for the server; returns its number of masks."""
    return write_submission(cases, predictions, path, folder="Annotations")
