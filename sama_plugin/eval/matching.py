"""One-to-one matching of references and predictions from a matrix of qualities.

Three rules occur in the field and give different numbers: greedy with an early stop (the released
GLaMM and SAMA code), greedy over the pairs that are admissible, and the best total (Hungarian).
Used by the tube and phrase metrics and by `davis`.
"""

from __future__ import annotations

import numpy as np

Pair = tuple[int, int]


def greedy_until_bad(quality: np.ndarray, similarity: np.ndarray, threshold: float) -> list[Pair]:
    """Pairs by falling quality, until the first one whose quality or similarity is below
    `threshold`: that pair ends everything (released behaviour).

    Args:
        quality, similarity: (N, M), indexed alike.
    """
    quality = np.array(quality, dtype=float)
    similarity = np.array(similarity, dtype=float)
    pairs: list[Pair] = []
    while quality.size and len(pairs) < min(quality.shape):
        row, column = np.unravel_index(int(quality.argmax()), quality.shape)
        if quality[row, column] < threshold or similarity[row, column] < threshold:
            break
        pairs.append((int(row), int(column)))
        quality[row, :] = quality[:, column] = 0
        similarity[row, :] = similarity[:, column] = 0
    return pairs


def greedy_admissible(quality: np.ndarray, admissible: np.ndarray) -> list[Pair]:
    """Pairs by falling quality among the admissible ones (bool (N, M)); nothing ends early."""
    quality = np.where(admissible, np.asarray(quality, dtype=float), -np.inf)
    pairs: list[Pair] = []
    while quality.size and quality.max() > -np.inf:
        row, column = np.unravel_index(int(quality.argmax()), quality.shape)
        pairs.append((int(row), int(column)))
        quality[row, :] = quality[:, column] = -np.inf
    return pairs


def best_assignment(quality: np.ndarray) -> list[Pair]:
    """min(N, M) pairs with the greatest total quality, by ascending row."""
    quality = np.asarray(quality, dtype=float)
    if not quality.size:
        return []
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-quality)
    return [(int(row), int(column)) for row, column in zip(rows, columns)]
