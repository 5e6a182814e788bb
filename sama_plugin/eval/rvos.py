"""Referring video segmentation: J, F, A and R of expressions, and the averages of each benchmark.

An expression is scored as one binary tube against the union of its objects, over all frames. A is
pixel accuracy; R ("robustness", ReVOS) is 1 minus the false-positive pixels over the clip's
foreground, at least 0. `released` readings repeat the public SAMA and Sa2VA scripts to the digit;
`corrected` ones are plain boolean arithmetic with no rounding before the mean. Used by MeViS,
Ref-DAVIS17, ReVOS and their relatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Sequence

import numpy as np

from sama_plugin.errors import DataError
from sama_plugin.eval.similarity import both
from sama_plugin.media.masks import RLE, decode

MEASURES = ("J", "F", "A", "R")


@dataclass(frozen=True)
class ExpressionScore:
    """Values of one expression, a frame each, float64 (T,); A and R only where asked for."""

    J: np.ndarray
    F: np.ndarray
    A: Optional[np.ndarray] = None
    R: Optional[np.ndarray] = None

    def means(self) -> dict[str, float]:
        """Mean over frames by measure."""
        values = {name: getattr(self, name) for name in MEASURES}
        return {name: float(value.mean()) for name, value in values.items() if value is not None}


MISSING = {"J": 0.0, "F": 0.0, "A": 0.0, "R": 0.0}
"""An expression without any prediction file scores 0 in every measure."""


def summed(tracks: Sequence[Sequence[Optional[RLE]]], size: tuple[int, int]) -> np.ndarray:
    """How many of an expression's objects cover a pixel, uint8 (T, H, W); None is an empty mask."""
    frames = {len(track) for track in tracks}
    if len(frames) > 1:
        raise DataError(
            "objects of one expression have masks for different numbers of frames",
            found=sorted(frames),
            reason="size_mismatch",
        )
    total = np.zeros((frames.pop() if frames else 0, *size), np.uint8)
    for track in tracks:
        for frame, rle in enumerate(track):
            if rle is not None:
                total[frame] += decode(rle)
    return total


def score(
    target: np.ndarray, prediction: np.ndarray, foreground: Optional[np.ndarray] = None
) -> ExpressionScore:
    """The corrected reading.

    Args:
        target, prediction: (T, H, W), anything not zero is the object.
        foreground: (T, H, W), union of all annotated objects of the clip; gives A and R.
    """
    target, prediction = target != 0, prediction != 0
    similarity = both(target, prediction)
    if foreground is None:
        return ExpressionScore(*similarity)
    accuracy = (target == prediction).mean((1, 2))
    wrong = (prediction & ~target).sum((1, 2))
    return ExpressionScore(*similarity, accuracy, _robustness(wrong, foreground))


def score_released(
    target: np.ndarray, prediction: np.ndarray, foreground: np.ndarray, value: int = 255
) -> ExpressionScore:
    """The reading of the released ReVOS scripts.

    Args:
        target: uint8 (T, H, W), *sum* of the expression's objects: overlaps hold 2 or more.
        value: what the prediction files hold for the object. SAMA writes 255 and compares it with
            1, so A counts background agreement only and R subtracts 255 a pixel; Sa2VA uses 1.
    """
    plain = score(target, prediction)
    stored = (prediction != 0).astype(np.uint8) * np.uint8(value)
    accuracy = (stored == target).mean((1, 2))
    outside = np.uint8(1) - target.astype(np.uint8)  # 8 bits: 1 - 2 is 255
    wrong = (stored * outside).sum((1, 2), dtype=np.int64)
    return ExpressionScore(plain.J, plain.F, accuracy, _robustness(wrong, foreground))


def mean_percent(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """J, F and J&F in percent, unweighted over expressions (MeViS, Ref-DAVIS17)."""
    if not scores:
        raise DataError("no expression to average", expected="at least one")
    result = {m: 100 * float(np.mean([s[m] for s in scores.values()])) for m in ("J", "F")}
    return {**result, "J&F": (result["J"] + result["F"]) / 2}


def mean_percent_released(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """As the released MeViS and Ref-DAVIS17 scripts print it: rounded to two decimals."""
    return {name: round(value, 2) for name, value in mean_percent(scores).items()}


def revos_percent(
    scores: Mapping[str, Mapping[str, float]], reasoning: Mapping[str, bool]
) -> dict[str, dict[str, float]]:
    """ReVOS: J, F, A, R, JF in percent for "referring", "reason", and "overall", the mean of both.

    Args:
        scores: fractions by expression. reasoning: whether an expression is of the second kind.
    """
    return _revos({name: _percent(one) for name, one in scores.items()}, reasoning)


def revos_percent_released(
    scores: Mapping[str, Mapping[str, float]], reasoning: Mapping[str, bool]
) -> dict[str, dict[str, float]]:
    """The same, each expression rounded to two decimals of percent before the mean."""
    rounded = {
        name: {measure: round(value, 2) for measure, value in _percent(one).items()}
        for name, one in scores.items()
    }
    return _revos(rounded, reasoning)


def _percent(values: Mapping[str, float]) -> dict[str, float]:
    return {measure: 100 * values[measure] for measure in MEASURES}


def _revos(
    scores: Mapping[str, Mapping[str, float]], reasoning: Mapping[str, bool]
) -> dict[str, dict[str, float]]:
    result = {}
    for group, kind in (("referring", False), ("reason", True)):
        chosen = [one for name, one in scores.items() if reasoning[name] is kind]
        if not chosen:
            raise DataError(f"no {group} expression to average", expected="at least one")
        result[group] = {m: float(np.mean([one[m] for one in chosen])) for m in MEASURES}
        result[group]["JF"] = (result[group]["J"] + result[group]["F"]) / 2
    both = result["referring"], result["reason"]
    result["overall"] = {name: (both[0][name] + both[1][name]) / 2 for name in both[0]}
    return result


def _robustness(wrong: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    return np.maximum(1 - wrong / ((foreground != 0).sum((1, 2)) + 1e-6), 0.0)
