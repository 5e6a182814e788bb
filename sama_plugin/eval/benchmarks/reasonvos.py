"""ReasonVOS: expressions whose object has to be inferred; J and F, all test.

`--data meta_expressions.json --root JPEGImages`; masks are palette pictures in
`Annotations/SOURCE_VIDEO_OBJECT/FRAME.png` beside the expressions, any value above 0 the object.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import reasonvos
from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.benchmarks.expressions import score_expressions
from sama_plugin.eval.cases import Case
from sama_plugin.eval.scoreboard import Scoreboard

MASKS = True
PUBLISHED = "reasonvos"
HEADLINE = ("J&F", "corrected")


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """One sample an expression, tagged with the dataset its video is from."""
    return reasonvos.read(data, root, report=report)


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    return score_expressions(cases, predictions)
