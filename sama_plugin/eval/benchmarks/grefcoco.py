"""gRefCOCO: a sentence may mean several things, or nothing, where the right answer has no mask.

cIoU and gIoU as in `refcoco`; gIoU is 1 where nothing is there and nothing was found. N-acc is the
share of sentences about nothing that got no mask, T-acc the share of the others that got one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection, refcoco
from sama_plugin.eval.benchmarks.referring_images import score_sentences
from sama_plugin.eval.cases import Case
from sama_plugin.eval.scoreboard import Scoreboard

MASKS = True
PUBLISHED = "grefcoco_val"
HEADLINE = ("gIoU", "corrected")


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """One sample a sentence."""
    return refcoco.read(data, root, report, selection)


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    board, overlaps = score_sentences(cases, predictions)
    for case, one in overlaps:
        if case.sample.turns[-1].targets:
            board.add("T-acc", "corrected", case.key, case.video, one.found_area > 0)
        else:
            board.add("N-acc", "corrected", case.key, case.video, one.found_area == 0)
    return board
