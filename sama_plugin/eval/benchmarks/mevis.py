"""MeViS: val_u has masks beside its expressions and is scored; val and test are for the server.

`--data meta_expressions.json --root JPEGImages`; `mask_dict.json` beside the expressions decides.
The server's zip has the video folders at its top: `VIDEO/EXPRESSION/FRAME.png`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import mevis
from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.benchmarks.expressions import score_expressions
from sama_plugin.eval.cases import Case
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.eval.submission import write_submission

MASKS = True
PUBLISHED = "mevis_val_u"
PUBLISHED_ON_SERVER = "mevis_val"
HEADLINE = ("J&F", "corrected")


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """One sample an expression."""
    return mevis.read(data, root, report=report, expressions_per_sample=1)


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    return score_expressions(cases, predictions)


def submit(cases: Sequence[Case], predictions: Mapping[str, Prediction], path: Path) -> int:
    """Write the zip for the server; returns its number of masks."""
    return write_submission(cases, predictions, path, folder="")
