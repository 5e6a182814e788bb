"""Values with 95 % intervals, and whether one run is better than another: bootstrap over videos.

Questions of one video are not independent, so videos are drawn, not questions. The draws depend on
the number of videos and a seed alone; two runs on the same cases are compared on the same draws
(paired). One video alone says nothing of others: there is no interval then. Used by every
benchmark's summary and by `sama eval compare`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np

DRAWS = 2000
LEVEL = 0.95
MOST_CELLS = 4_000_000
"""Draws are made in blocks of so many numbers, so that memory stays small."""


@dataclass(frozen=True)
class Part:
    """What one case adds to a metric: `value` counts `weight` times in the mean."""

    video: str
    value: float
    weight: float = 1.0


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval; `n` cases in `videos` videos. NaN where nothing was scored, and
    for the interval of a single video."""

    value: float
    low: float
    high: float
    n: int
    videos: int


@dataclass(frozen=True)
class Difference:
    """B minus A on the cases that both scored; `p` is the two-sided bootstrap probability that the
    sign is chance. NaN, like the interval, where all cases are of one video."""

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    n: int
    videos: int


def estimate(parts: Sequence[Part], seed: int = 0) -> Estimate:
    """Weighted mean of the parts and the percentiles of its bootstrap."""
    if not parts or not sum(part.weight for part in parts):
        return Estimate(float("nan"), float("nan"), float("nan"), 0, 0)
    names = sorted({part.video for part in parts})
    sums, weights = _by_video(parts, names)
    drawn = _means(sums[None], weights[None], seed)[0]
    low, high = _limits(drawn, len(names))
    return Estimate(float(sums.sum() / weights.sum()), low, high, len(parts), len(names))


def difference(a: dict[str, Part], b: dict[str, Part], seed: int = 0) -> Optional[Difference]:
    """Paired comparison of parts by case; None if the runs share no case."""
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    names = sorted({a[case].video for case in shared})
    rows = [_by_video([run[case] for case in shared], names) for run in (a, b)]
    sums, weights = (np.stack(column) for column in zip(*rows))  # (2, videos)
    if not weights.sum(1).all():
        return None
    drawn = _means(sums, weights, seed)
    changes = drawn[1] - drawn[0]
    low, high = _limits(changes, len(names))
    known = changes[~np.isnan(changes)]
    p = min(1.0, 2 * min((known <= 0).mean(), (known >= 0).mean()))
    values = sums.sum(1) / weights.sum(1)
    return Difference(
        float(values[0]),
        float(values[1]),
        float(values[1] - values[0]),
        low,
        high,
        float(p) if len(names) > 1 else float("nan"),
        len(shared),
        len(names),
    )


def _by_video(parts: Sequence[Part], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(V,) weighted sums and (V,) weights."""
    place = {name: number for number, name in enumerate(names)}
    at = np.array([place[part.video] for part in parts])
    weight = np.array([part.weight for part in parts], dtype=float)
    value = np.array([part.value for part in parts], dtype=float)
    count = len(names)
    return np.bincount(at, value * weight, count), np.bincount(at, weight, count)


def _means(sums: np.ndarray, weights: np.ndarray, seed: int) -> np.ndarray:
    """(runs, DRAWS) means of drawn videos, from (runs, V) sums and weights."""
    rng = np.random.default_rng(seed)
    videos = sums.shape[1]
    block = max(1, min(DRAWS, MOST_CELLS // videos))
    drawn = []
    for start in range(0, DRAWS, block):
        draws = min(block, DRAWS - start)
        counts = rng.multinomial(videos, np.full(videos, 1 / videos), draws)  # (draws, V)
        total = weights @ counts.T
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn.append(sums @ counts.T / total)
    return np.concatenate(drawn, axis=1)


def _limits(drawn: np.ndarray, videos: int) -> tuple[float, float]:
    if videos < 2:
        return float("nan"), float("nan")
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return float(low), float(high)
