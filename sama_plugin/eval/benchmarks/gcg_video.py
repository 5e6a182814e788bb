"""Grounded descriptions of videos: tube mIoU, Recall, METEOR, CIDEr and CLAIR a video.

There is no common file layout for these sets, so `--data` is our own JSON lines (`sama data
convert` writes them): one question and one marked answer a line, with the tracks of its phrases.
The numbers are those of SAMA-Bench-G, whose released evaluator descends from the one of this task.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import sama
from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection, sama_bench_g
from sama_plugin.eval.cases import Case
from sama_plugin.eval.scoreboard import Scoreboard

MASKS = True
PUBLISHED = "gcg_video"
HEADLINE = ("mIoU", "corrected")


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """The lines of the file."""
    return sama.read(data, root, report=report)


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    return sama_bench_g.score(cases, predictions, means)
