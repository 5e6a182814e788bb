"""The two DAVIS 2017 tasks over label maps: J and F of every object of every sequence.

Semi-supervised: object k is compared with id k, the first and last frame do not count.
Unsupervised: proposals are assigned to objects by the best total J&F, all frames count. Used to
check the measures against the public evaluator and by exports of multi-object results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

import numpy as np

from sama_plugin.errors import DataError
from sama_plugin.eval.matching import best_assignment
from sama_plugin.eval.series import Series, summarise
from sama_plugin.eval.similarity import both, every_pair

MOST_PROPOSALS = 20
VOID = 255


@dataclass(frozen=True)
class ObjectScore:
    """J and F of one object, one value a counted frame, (T,)."""

    region: np.ndarray
    boundary: np.ndarray

    @property
    def region_series(self) -> Series:
        """Mean, recall and decay of J."""
        return summarise(self.region)

    @property
    def boundary_series(self) -> Series:
        """Mean, recall and decay of F."""
        return summarise(self.boundary)


def semi_supervised(target: np.ndarray, prediction: np.ndarray) -> dict[int, ObjectScore]:
    """Scores by object id.

    Args:
        target, prediction: uint8 (T, H, W) of object ids, 0 background, 255 void. Objects are
            those of the target's first frame, up to its highest id.
    """
    _check(target, prediction)
    void = target[1:-1] == VOID
    first = target[0][target[0] != VOID]
    scores = {}
    for number in range(1, int(first.max(initial=0)) + 1):
        wanted = (target[1:-1] == number) & ~void
        found = (prediction[1:-1] == number) & ~void
        scores[number] = ObjectScore(*both(wanted, found))
    return scores


def unsupervised(
    target: np.ndarray, prediction: np.ndarray
) -> tuple[dict[int, ObjectScore], list[tuple[int, int]]]:
    """Scores by rank of the matched proposal, and the (proposal, object) id pairs.

    Scores are listed by ascending proposal, as the public evaluator prints them: key k is the k-th
    matched proposal, not the object k.
    """
    _check(target, prediction)
    void = target == VOID
    first = target[0][target[0] != VOID]
    objects = int(first.max(initial=0))
    proposals = int(min(prediction[prediction != VOID].max(initial=0), MOST_PROPOSALS))
    wanted = [(target == number) & ~void for number in range(1, objects + 1)]
    found = [(prediction == number) & ~void for number in range(1, proposals + 1)]
    found += [np.zeros(target.shape, bool)] * max(0, objects - proposals)
    table = [[ObjectScore(*both) for both in row] for row in every_pair(found, wanted)]
    quality = np.array(
        [[(s.region.mean() + s.boundary.mean()) / 2 for s in row] for row in table]
    ).reshape(len(found), objects)
    pairs = best_assignment(quality)
    scores = {rank: table[p][o] for rank, (p, o) in enumerate(pairs, start=1)}
    return scores, [(proposal + 1, number + 1) for proposal, number in pairs]


def overall(objects: Mapping[str, ObjectScore]) -> dict[str, float]:
    """Unweighted means over objects, named as the public evaluator names them."""
    if not objects:
        raise DataError("no object to score", expected="at least one sequence with an object")
    rows = [(score.region_series, score.boundary_series) for score in objects.values()]
    result = {}
    for place, measure in enumerate("JF"):
        for name in ("mean", "recall", "decay"):
            values = [getattr(row[place], name) for row in rows]
            result[f"{measure}-{name.title()}"] = float(np.mean(values))
    return {"J&F-Mean": (result["J-Mean"] + result["F-Mean"]) / 2, **result}


def _check(target: np.ndarray, prediction: np.ndarray) -> None:
    if target.shape != prediction.shape or target.ndim != 3:
        raise DataError(
            "label maps of different shape",
            found=f"target {target.shape}, prediction {prediction.shape}",
            expected="two (T, H, W) arrays",
            reason="size_mismatch",
        )
