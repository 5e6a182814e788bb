"""SAMA-Bench-G: grounded answers to questions about regions of a video.

The benchmark is released in shards of four datasets: give all of them, or a number is of a part.
mIoU and Recall of the masks, METEOR and CIDEr of the words, CLAIR by a judge; each over the videos,
in the reading of the released evaluator and in the corrected one (see `eval/sama_bench_g.py`).
The released protocol asks every question by itself. With `--history` a question comes after those
before it and the model's own answers to them, which is what "dialogue" promises; it is another
protocol, so its numbers compare with no published ones.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

import numpy as np

from sama_plugin.data.formats import sama_bench
from sama_plugin.data.formats.sama_clip import dataset_of
from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample, Turn
from sama_plugin.errors import DataError
from sama_plugin.eval import sama_bench_g as metrics
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.benchmarks.captioning import add_captions, add_clair
from sama_plugin.eval.cases import Case, by_video
from sama_plugin.eval.phrases import paired
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.eval.track_ious import track_ious

MASKS = True
PUBLISHED = "sama_bench_g"
HEADLINE = ("mIoU", "corrected")
ASKED = ("nothing to ground", "one thing", "several things")
"""Types of questions where all videos are of one dataset, or of none that is known."""


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """The questions; the file says on which frames regions are, so the mode is not used."""
    samples = by_dataset(sama_bench.read(data, root, report=report, tasks=("questions",)), root)
    return _with_history(samples) if selection.history else samples


def by_dataset(samples: Iterator[Sample], root: Union[str, Path]) -> Iterator[Sample]:
    """Samples tagged with the dataset that their video is from, the type in all tables."""
    for sample in samples:
        try:
            dataset = dataset_of(os.path.relpath(str(sample.media.source), root))
        except DataError:  # one mask file for everything
            yield sample
        else:
            yield dataclasses.replace(sample, tags=(dataset,))


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    board = Scoreboard()
    board.notes.append(f"phrase similarity of Recall: {means.similarity_name}")
    if any(len(case.sample.turns) > 1 for case in cases):
        board.notes.append("asked with dialogue history; published numbers are without")
    texts, several = {}, len({case.kind for case in cases}) > 1
    for video, group in by_video(cases).items():
        questions, kind = [], group[0].kind
        pairs = []
        for case in group:
            prediction = predictions[case.key]
            question = _question(case, prediction, means, board)
            questions.append(question)
            targets = case.sample.turns[-1].targets
            grounded = paired(targets, prediction, question.ious, means.similarity)
            pairs.append(metrics.Question(*grounded))
            answer = case.sample.turns[-1].assistant or ""
            texts[case.key] = metrics.cleaned(answer), metrics.cleaned(prediction.text)
        released = [metrics.miou_released(one) for one in questions]
        board.add("mIoU", "released", video, video, sum(released) / len(released), kind=kind)
        for case, one in zip(group, questions):  # every video weighs 1, as in the released mean
            value, weight = metrics.miou_corrected(one), 1 / len(group)
            asked = ASKED[min(len(case.sample.turns[-1].targets), 2)]
            what = kind if several else asked
            board.add("mIoU", "corrected", case.key, video, value, weight, kind=what)
        recalled = [metrics.recall_released(one) for one in questions]
        board.add("Recall", "released", video, video, metrics.video_recall(recalled), kind=kind)
        board.counts["questions the released Recall skips"] += sum(not r.phrases for r in recalled)
        recalled = [metrics.recall_corrected(one) for one in pairs]
        if any(one.phrases for one in recalled):  # else there is nothing to recall in this video
            board.add(
                "Recall", "corrected", video, video, metrics.video_recall(recalled), kind=kind
            )
    add_captions(board, cases, texts, readings=("released", "corrected"))
    add_clair(board, cases, texts, means.judge)
    return board


def _with_history(samples: Iterator[Sample]) -> Iterator[Sample]:
    """Every question with the turns before it, of records that are about one video."""
    for _, group in itertools.groupby(samples, key=lambda sample: sample.media.source):
        turns: tuple[Turn, ...] = ()
        for sample in group:
            turns += sample.turns
            yield dataclasses.replace(sample, turns=turns)


def _question(
    case: Case, prediction: Prediction, means: Means, board: Scoreboard
) -> metrics.Question:
    turn = case.sample.turns[-1]
    wanted = [target.track for target in turn.targets if target.track is not None]
    if len(wanted) < len(turn.targets):
        board.counts["targets without annotated masks"] += len(turn.targets) - len(wanted)
    try:
        ious = track_ious(wanted, prediction.tracks)
    except DataError as error:
        board.fault(case.key, error)
        ious = np.zeros((len(wanted), 0))
    similarity = means.similarity(
        [target.phrase.strip().lower() for target in turn.targets],
        metrics.phrases_of(prediction.text),
    )
    return metrics.Question(ious, similarity)
