"""One file a benchmark: which samples it reads and how its answers become a scoreboard.

A new benchmark is one module here (or in another package, by an entry point in the group
`sama_plugin.suites`) with the names of `Benchmark`, and one line in the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Mapping, Protocol, Sequence, Union

from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.cases import Case
from sama_plugin.eval.judge import Judge
from sama_plugin.eval.phrases import Similarity
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.registry import Registry

SUITES = Registry(
    "suites",
    {
        "sama-bench-g": "sama_plugin.eval.benchmarks.sama_bench_g",
        "sama-bench-c": "sama_plugin.eval.benchmarks.sama_bench_c",
        "videorefer-bench-d": "sama_plugin.eval.benchmarks.videorefer_bench_d",
        "videorefer-bench-q": "sama_plugin.eval.benchmarks.videorefer_bench_q",
        "mevis": "sama_plugin.eval.benchmarks.mevis",
        "ref-youtube-vos": "sama_plugin.eval.benchmarks.ref_youtube_vos",
        "ref-davis17": "sama_plugin.eval.benchmarks.ref_davis17",
        "revos": "sama_plugin.eval.benchmarks.revos",
        "reasonvos": "sama_plugin.eval.benchmarks.reasonvos",
        "ref-sav": "sama_plugin.eval.benchmarks.ref_sav",
        "refcoco": "sama_plugin.eval.benchmarks.refcoco",
        "grefcoco": "sama_plugin.eval.benchmarks.grefcoco",
        "gcg": "sama_plugin.eval.benchmarks.gcg",
        "gcg-video": "sama_plugin.eval.benchmarks.gcg_video",
        "refcocog-captions": "sama_plugin.eval.benchmarks.refcocog_captions",
        "region-categories": "sama_plugin.eval.benchmarks.region_categories",
        "hc-stvg": "sama_plugin.eval.benchmarks.hc_stvg",
    },
)


@dataclass(frozen=True)
class Selection:
    """Which cases of a file are meant, and how they are put.

    Attributes:
        mode: "single" or "multi": frames on which a thing is pointed at.
        split: of files that hold several; "" is the benchmark's usual one.
        history: questions of a video are turns of one conversation, where the file has dialogues.
    """

    mode: str = "single"
    split: str = ""
    history: bool = False


@dataclass(frozen=True)
class Means:
    """What scoring may use besides the answers. `similarity_name` is said in the summary."""

    judge: Judge
    similarity: Similarity
    similarity_name: str


class Benchmark(Protocol):
    """The module of a benchmark.

    Attributes:
        MASKS: whether answers are grounded. PUBLISHED: its key in configs/eval/published.yaml.
        HEADLINE: (metric, reading) by which the page sorts cases.

    A benchmark with a server of its own also has `submit(cases, predictions, path)`, which writes
    the zip for it, and may have PUBLISHED_ON_SERVER, the key of what the server scores.
    """

    MASKS: bool
    PUBLISHED: str
    HEADLINE: tuple[str, str]

    def read(
        self, data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
    ) -> Iterator[Sample]:
        """Samples of an annotation file."""

    def score(
        self, cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means
    ) -> Scoreboard:
        """Scores of all cases; every case has a prediction."""
