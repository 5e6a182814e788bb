"""VideoRefer-Bench-D: a judge's reply to four scores of 0 to 5, and their averages.

`read_released` is the public script's pattern, which loses a dimension as soon as its name is
bold and reads 7 as 7. `read_strict` tolerates markdown, order and JSON but not a score outside
0..5; what is missing is None and counted. All four dimensions are higher-is-better.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence

import numpy as np

DIMENSIONS = (
    "Subject Correspondence",
    "Appearance Description",
    "Temporal Description",
    "Hallucination Detection",
)
SHORT = {"SC": DIMENSIONS[0], "AD": DIMENSIONS[1], "TD": DIMENSIONS[2], "HD": DIMENSIONS[3]}
HIGHEST = 5
PROMPT_ID = "videorefer-d-en-1"

_RELEASED = re.compile(r"\d+\.\s+(.+?):\s+([\d.]+)")
_MARKDOWN = re.compile(r"[*_`#|]")

Scores = dict[str, Optional[float]]

SYSTEM = (
    "You judge how factually accurate a description of one object in a video is. Compare the "
    "predicted description with the correct one and give an integer from 0 (irrelevant) to 5 "
    "(perfect) for each of four dimensions:\n"
    "1. Subject Correspondence: is it about the same subject?\n"
    "2. Appearance Description: do colour, shape, size and texture agree?\n"
    "3. Temporal Description: does the motion over time agree?\n"
    "4. Hallucination Detection: 5 if nothing is invented, lower the more facts or actions are.\n"
    "Answer with four lines of exactly this form, each followed by one line of explanation:\n"
    "1. Subject Correspondence: <score>\n"
    "2. Appearance Description: <score>\n"
    "3. Temporal Description: <score>\n"
    "4. Hallucination Detection: <score>"
)


def prompt(reference: str, prediction: str) -> str:
    """The user message to the judge; it never sees the video."""
    return f"##Correct answer: {reference}\n##Predicted answer: {prediction}"


def parse_released(reply: str) -> dict[str, float]:
    """Every "N. name: number" of a reply, later ones replacing earlier ones.

    Raises:
        ValueError: a number that is none, e.g. 3.5.1.
    """
    return {name: float(number) for name, number in _RELEASED.findall(reply)}


def read_released(reply: Optional[str]) -> Optional[Scores]:
    """Scores by dimension, None where absent; None for a reply that is missing or unreadable.

    The v1 script drops such a record, the VideoLLaMA3 one keeps it without scores; the averages
    are the same.
    """
    try:
        found = parse_released(reply) if reply is not None else None
    except ValueError:
        return None
    return None if found is None else {name: found.get(name) for name in DIMENSIONS}


def read_strict(reply: Optional[str]) -> Scores:
    """Scores by dimension; None where the reply gives no number of 0 to 5 after the name.

    Markdown, case, "4/5", bullets, a dash for the colon and JSON are read; of repeated dimensions
    the last counts.
    """
    text = _MARKDOWN.sub("", reply or "").replace("\uff1a", ":").replace("\\n", "\n")
    scores: Scores = {}
    for name in DIMENSIONS:
        pattern = (
            re.escape(name) + r"\"?\s*[:=\u2013\u2014-]?\s*(?:score\s*:?\s*)?(-?\d+(?:\.\d+)*)"
        )
        found = re.findall(pattern, text, re.IGNORECASE)
        scores[name] = _in_range(found[-1]) if found else None
    return scores


@dataclass(frozen=True)
class Averages:
    """Mean and count by dimension, and the unweighted mean of the four."""

    means: dict[str, float]
    counts: dict[str, int]

    @property
    def average(self) -> float:
        """Unweighted mean of the four means; NaN if a dimension was never scored."""
        return float(np.mean([self.means[name] for name in DIMENSIONS]))


def average(scores: Sequence[Optional[Mapping[str, Optional[float]]]]) -> Averages:
    """Means over the records that have a dimension. The released script ends with a
    ZeroDivisionError where no record has; here that mean is NaN and its count 0."""
    means, counts = {}, {}
    for name in DIMENSIONS:
        values = [one[name] for one in scores if one is not None and one[name] is not None]
        counts[name] = len(values)
        means[name] = float(np.mean(values)) if values else float("nan")
    return Averages(means, counts)


def _in_range(text: str) -> Optional[float]:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= HIGHEST else None
