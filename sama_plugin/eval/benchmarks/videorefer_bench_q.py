"""VideoRefer-Bench-Q: multiple choice about objects; accuracy by two readings of the letter.

The published Average is over questions, not over types; the table by type is part of the summary.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import videorefer_bench
from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.eval import choices
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.cases import Case
from sama_plugin.eval.scoreboard import Scoreboard

MASKS = False
PUBLISHED = "videorefer_bench_q"
HEADLINE = ("accuracy", "corrected")

_OPTION = re.compile(r" (?=\([A-Z]\) )")


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """Samples of the -Q file; pointed at on one frame or on all annotated ones."""
    return videorefer_bench.read(data, root, report=report, mode=selection.mode)


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    board = Scoreboard()
    for case in cases:
        turn, said = case.sample.turns[-1], predictions[case.key].plain
        strict = choices.letter_strict(said, options_of(turn.user))
        board.counts["answers without a letter"] += strict is None
        try:
            released = choices.right_released(turn.assistant or "", said)
        except IndexError:  # upstream the whole file ends here
            board.counts["empty answers, where the released script stops"] += 1
            released = False
        for reading, right in (("released", released), ("corrected", strict == turn.assistant)):
            board.add("accuracy", reading, case.key, case.video, right, kind=case.kind)
    return board


def options_of(question: str) -> list[str]:
    """Options of a question as `data.formats.videorefer_bench` words it, "(A) walks" each."""
    stem = question.removesuffix(videorefer_bench.LETTER_ONLY).rstrip(". ")
    return _OPTION.split(stem)[1:]
