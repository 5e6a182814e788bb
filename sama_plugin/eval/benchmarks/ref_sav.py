"""Ref-SAV: long descriptions of the objects of SA-V clips; J and F on the annotated frames.

`--data` is either the file of videos, masklets and descriptions (its long ones are asked), or, as
the public evaluation set is spread, `meta_expressions_valid.json` with `mask_dict.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import files, ref_sav, video_expressions
from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.benchmarks.expressions import score_expressions
from sama_plugin.eval.cases import Case
from sama_plugin.eval.scoreboard import Scoreboard

MASKS = True
PUBLISHED = "ref_sav"
HEADLINE = ("J&F", "corrected")


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """One sample an expression."""
    if "videos" in files.load_json(data):
        return video_expressions.read(data, root, report=report, expressions_per_sample=1)
    return ref_sav.read(data, root, report=report, wording="long", expressions_per_sample=1)


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    return score_expressions(cases, predictions)
