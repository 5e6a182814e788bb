"""SAMA-Bench-G, the grounding half: mIoU and Recall of a video's questions, in named readings.

`released` is what the public evaluator computes: mIoU over matched pairs only, and a Recall that
reads the phrase similarity at transposed indices, stops at the first bad pair and drops questions
without a mask or a phrase from its denominator. `corrected` indexes both matrices alike, counts
every reference phrase, and divides by all tubes of the larger side. Caption metrics and CLAIR are
in `captions` and `clair`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Mapping, Sequence

import numpy as np

from sama_plugin.eval.matching import greedy_admissible, greedy_until_bad
from sama_plugin.eval.tubes import match_tubes

THRESHOLD = 0.5
"""Least IoU and least phrase similarity of a recalled phrase."""
MOST_WORDS, MOST_CHARACTERS = 300, 2000
"""The released caption metrics see no more of an answer."""

_PHRASE = re.compile(r"<p>(.*?)</p>", re.DOTALL)
_MARKS = ("<p>", "</p>", "[SEG]", "<|im_end|>", "<s>", "<|end|>")


@dataclass(frozen=True)
class Question:
    """One answered question.

    Attributes:
        ious: (G, P) tube IoU of reference masks with predicted masks.
        similarity: (G phrases, P phrases) in [0, 1], in text order.
    """

    ious: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True)
class Recalled:
    """Phrases of a question that were recalled, of how many that count."""

    hits: int
    phrases: int
    pairs: tuple[tuple[int, int], ...] = ()


def phrases_of(text: str) -> list[str]:
    """Phrases of a marked answer, stripped and lower case, as the released code reads them."""
    return [phrase.strip().lower() for phrase in _PHRASE.findall(text)]


def cleaned(text: str) -> str:
    """A marked answer as the caption metrics read it: no marks, single blanks, 300 words."""
    for mark in _MARKS:
        text = text.replace(mark, "")
    return " ".join(text.split()[:MOST_WORDS])[:MOST_CHARACTERS]


def miou_released(question: Question) -> float:
    """Mean over the matched pairs alone: misses and extra masks cost nothing."""
    matched = [iou for _, _, iou in match_tubes(question.ious)]
    return float(np.mean(matched)) if matched else 0.0


def miou_corrected(question: Question) -> float:
    """Sum of the matched IoUs over the larger number of tubes; 1 where none were due or given."""
    largest = max(question.ious.shape)
    return sum(iou for _, _, iou in match_tubes(question.ious)) / largest if largest else 1.0


def recall_released(question: Question) -> Recalled:
    """As coded upstream; a question without predicted mask or phrase counts no phrases at all."""
    phrases, said = question.similarity.shape
    if not said or not question.ious.shape[1]:
        return Recalled(0, 0)
    by_prediction = question.ious.T
    rows = min(by_prediction.shape[0], phrases)
    columns = min(by_prediction.shape[1], said)
    pairs = greedy_until_bad(
        by_prediction[:rows, :columns], question.similarity[:rows, :columns], THRESHOLD
    )
    return Recalled(len(pairs), phrases, tuple(pairs))


def recall_corrected(question: Question) -> Recalled:
    """Both matrices references x predictions, every phrase counts, no bad pair ends the rest.

    Prediction k is (phrase k, mask k); a mask without phrase or a phrase without mask recalls
    nothing.
    """
    ious, similarity = _aligned(question)
    admissible = (ious >= THRESHOLD) & (similarity >= THRESHOLD)
    pairs = greedy_admissible(ious, admissible)
    return Recalled(len(pairs), question.similarity.shape[0], tuple(pairs))


def recall_orientation_fixed(question: Question) -> Recalled:
    """Only the index defect removed: the original GLaMM rule, which stops at the first bad pair."""
    ious, similarity = _aligned(question)
    pairs = greedy_until_bad(ious, similarity, THRESHOLD)
    return Recalled(len(pairs), question.similarity.shape[0], tuple(pairs))


def video_recall(recalled: Sequence[Recalled]) -> float:
    """Recall of a video: hits over phrases of all its questions; 0 without any phrase."""
    phrases = sum(one.phrases for one in recalled)
    return sum(one.hits for one in recalled) / phrases if phrases else 0.0


def released_file_average(videos: Mapping[str, float], part: str = "VidSTG") -> float:
    """The released final script: mean over the videos whose name contains `part` alone."""
    chosen = [value for name, value in videos.items() if part in name]
    return float(np.mean(chosen)) if chosen else float("nan")


def released_rank_average(videos: Mapping[str, float]) -> float:
    """The released evaluator's own rank file: the sum over the number of videos plus 1e-5."""
    return sum(videos.values()) / (len(videos) + 1e-5)


def _aligned(question: Question) -> tuple[np.ndarray, np.ndarray]:
    rows = min(question.ious.shape[0], question.similarity.shape[0])
    columns = min(question.ious.shape[1], question.similarity.shape[1])
    return question.ious[:rows, :columns], question.similarity[:rows, :columns]
