"""Describe a person of a video in one sentence (HC-STVG test): BLEU-4, METEOR, ROUGE-L, CIDEr.

`--data` in the layout of VideoRefer-Bench-D, which the public protocol converts HC-STVG to; the
caption scores are those of one corpus. SPICE is not computed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import videorefer_bench
from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection, refcocog_captions
from sama_plugin.eval.cases import Case
from sama_plugin.eval.scoreboard import Scoreboard

MASKS = False
PUBLISHED = "hc_stvg"
HEADLINE = ("METEOR", "corrected")
ASK = f"Please describe what {REGION_MARK} looks like and does in this video, in one sentence."


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """The samples of the file, asked for one sentence."""
    for sample in videorefer_bench.read(data, root, report=report, mode=selection.mode):
        turn = dataclasses.replace(sample.turns[0], user=ASK)
        yield dataclasses.replace(sample, turns=(turn,))


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    return refcocog_captions.score(cases, predictions, means)
