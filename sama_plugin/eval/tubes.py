"""Grounded answers: spatio-temporal IoU of mask tubes and one-to-one matching of phrases.

A tube is one object's masks over the whole clip. `match_tubes` pairs predictions and references one
to one by
descending IoU. Unmatched references and predictions count as misses in `mean_iou` (SAMA's released
evaluator leaves
them out).
"""

from __future__ import annotations

from typing import Sequence

import numpy as np


def tube_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two bool (T, H, W) tubes, summed over frames; 0 if both are
    empty.
    """
    union = np.count_nonzero(one | other)
    return float(np.count_nonzero(one & other) / union) if union else 0.0


def match_tubes(ious: np.ndarray) -> list[tuple[int, int, float]]:
    """Greedy one-to-one pairs (row, column, IoU) of a (predictions, references) matrix, best first,
    until the best IoU left is 0."""
    ious = np.array(ious, dtype=float)
    pairs = []
    while ious.size and ious.max() > 0:
        row, column = np.unravel_index(int(ious.argmax()), ious.shape)
        pairs.append((int(row), int(column), float(ious[row, column])))
        ious[row, :] = 0
        ious[:, column] = 0
    return pairs


def iou_matrix(predictions: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> np.ndarray:
    """(P, R) tube IoUs."""
    return np.array(
        [[tube_iou(found, wanted) for wanted in references] for found in predictions]
    ).reshape(len(predictions), len(references))


def mean_iou(predictions: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> float:
    """Mean IoU over max(predictions, references): unmatched ones on either side count 0.

    An answer that should and does hold no mask scores 1.
    """
    count = max(len(predictions), len(references))
    if count == 0:
        return 1.0
    return sum(iou for _, _, iou in match_tubes(iou_matrix(predictions, references))) / count


def phrase_hits(
    predictions: Sequence[tuple[str, np.ndarray]],
    references: Sequence[tuple[str, np.ndarray]],
    threshold: float = 0.5,
) -> int:
    """How many reference phrases are recalled: matched by a prediction of IoU >= `threshold` whose
    phrase has the same content words."""
    ious = iou_matrix([tube for _, tube in predictions], [tube for _, tube in references])
    same = np.array(
        [
            [content(found) == content(wanted) for wanted, _ in references]
            for found, _ in predictions
        ],
        dtype=bool,
    ).reshape(ious.shape)
    return sum(iou >= threshold for _, _, iou in match_tubes(np.where(same, ious, 0.0)))


def content(phrase: str) -> frozenset[str]:
    """The words of a phrase without articles, lower case."""
    words = phrase.lower().replace(",", " ").replace(".", " ").split()
    return frozenset(word for word in words if word not in ("the", "a", "an"))
