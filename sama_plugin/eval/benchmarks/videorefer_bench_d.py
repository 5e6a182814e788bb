"""VideoRefer-Bench-D: describe an object; a judge gives four scores of 0 to 5, read in two ways.

Without a judge the caption metrics are computed alone. The public protocol has none; they are
called "offline" and compare with nothing published.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import videorefer_bench
from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.eval import four_scores
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.benchmarks.captioning import add_captions
from sama_plugin.eval.cases import Case
from sama_plugin.eval.judge import Judge, Question
from sama_plugin.eval.scoreboard import Scoreboard

MASKS = False
PUBLISHED = "videorefer_bench_d"
HEADLINE = ("TD", "corrected")


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """Samples of the -D file; pointed at on one frame or on all annotated ones."""
    return videorefer_bench.read(data, root, report=report, mode=selection.mode)


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    board = Scoreboard()
    texts = {
        case.key: (case.sample.turns[-1].assistant or "", predictions[case.key].plain)
        for case in cases
    }
    add_captions(board, cases, texts, readings=("offline",))
    if means.judge.name == "none":
        board.missing["SC, AD, TD, HD"] = "no judge (--judge none)"
        return board
    board.notes.append(
        f"four scores by {means.judge.name}, prompt {four_scores.PROMPT_ID} (our wording)"
    )
    for case in cases:
        _judge(board, case, *texts[case.key], means.judge)
    _add_averages(board)
    return board


def _judge(board: Scoreboard, case: Case, reference: str, prediction: str, judge: Judge) -> None:
    text = four_scores.prompt(reference, prediction)
    reply = judge.ask(Question(four_scores.PROMPT_ID, four_scores.SYSTEM, text))
    if reply.text is None:
        board.counts["not judged"] += 1
        return
    readings = {
        "released": four_scores.read_released(reply.text) or {},
        "corrected": four_scores.read_strict(reply.text),
    }
    for reading, scores in readings.items():
        for short, name in four_scores.SHORT.items():
            value = scores.get(name)
            if value is None:
                board.counts[f"dimensions unparsed ({reading})"] += 1
            else:
                board.add(short, reading, case.key, case.video, value, kind=case.kind)


def _add_averages(board: Scoreboard) -> None:
    """The published Average is the unweighted mean of the four means: each dimension weighs 1,
    shared by the replies that have it."""
    for reading in ("released", "corrected"):
        found = {short: board.parts.get((short, reading), {}) for short in four_scores.SHORT}
        lost = [short for short, parts in found.items() if not parts]
        for short in lost:
            board.missing[f"{short} ({reading})"] = "no reply of the judge has this score"
        if lost:
            board.missing[f"average ({reading})"] = f"no reply has a score for {', '.join(lost)}"
            continue
        for short, parts in found.items():
            for key, part in parts.items():
                name = f"{key}/{short}"
                board.add("average", reading, name, part.video, part.value, 1 / len(parts))
