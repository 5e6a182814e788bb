"""RefCOCO, RefCOCO+ and RefCOCOg: segment what a sentence means; every sentence is a case.

`--data "refs(unc).p" --root IMAGES --split val|testA|testB|test`, `instances.json` beside it. A
published number without its split and data set is worth nothing: they differ by ten points. "test"
is what the public REFER makes of it, both testA and testB where a file has those (Sa2VA's
`run_all_evals` measures that).
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import refcoco
from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.benchmarks.referring_images import score_sentences
from sama_plugin.eval.cases import Case
from sama_plugin.eval.scoreboard import Scoreboard

MASKS = True
PUBLISHED = "refcoco_val"
HEADLINE = ("gIoU", "corrected")
SPLIT = "val"
UNIONS = {"test": ("test", "testA", "testB")}


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """One sample a sentence."""
    name = selection.split or SPLIT
    split = UNIONS.get(name, (name,))
    return refcoco.read(data, root, report=report, split=split, expressions_per_sample=1)


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    return score_sentences(cases, predictions)[0]
