"""Mean, recall and decay of a value over the frames of a clip, as the DAVIS protocol defines them.

Recall is the share of frames above 0.5; decay is how much is lost from the first to the last
quarter of the clip. Used for J and F of every video benchmark (Perazzi et al. 2016, section 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

RECALL_THRESHOLD = 0.5
QUARTERS = 4


@dataclass(frozen=True)
class Series:
    """Statistics of one object's values over time, fractions."""

    mean: float
    recall: float
    decay: float


def summarise(values: Sequence[float]) -> Series:
    """Statistics of (T,) values; frames that are NaN are left out of the means.

    Recall counts a NaN frame as missed. Quarters share their border frame, as in the reference.
    Clips of any length are right here (the reference counts frames in 8 bits).
    """
    values = np.asarray(values, dtype=float)
    if not values.size:
        return Series(float("nan"), float("nan"), float("nan"))
    borders = np.round(np.linspace(1, len(values), QUARTERS + 1) + 1e-10).astype(int) - 1
    first = values[borders[0] : borders[1] + 1]
    last = values[borders[-2] : borders[-1] + 1]
    recall = float(np.mean(values > RECALL_THRESHOLD))
    return Series(_mean(values), recall, _mean(first) - _mean(last))


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
