"""SAMA-Bench-C: describe a region of a video in detail. METEOR, CIDEr and CLAIR, nothing grounded.

Regions are pointed at with their true masks, as the released evaluator does here (and not in
SAMA-Bench-G, where it fills their boxes).
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import sama_bench
from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.benchmarks.captioning import add_captions, add_clair
from sama_plugin.eval.benchmarks.sama_bench_g import by_dataset
from sama_plugin.eval.cases import Case
from sama_plugin.eval.sama_bench_g import cleaned
from sama_plugin.eval.scoreboard import Scoreboard

MASKS = False
PUBLISHED = "sama_bench_c"
HEADLINE = ("METEOR", "corrected")


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """The descriptions; regions are on every frame the file gives, so the mode is not used."""
    return by_dataset(sama_bench.read(data, root, report=report, tasks=("descriptions",)), root)


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    board = Scoreboard()
    texts = {
        case.key: (
            cleaned(case.sample.turns[-1].assistant or ""),
            cleaned(predictions[case.key].text),
        )
        for case in cases
    }
    add_captions(board, cases, texts, readings=("released", "corrected"))
    add_clair(board, cases, texts, means.judge)
    return board
