"""CLAIR: a language model says, 0 to 100, how likely two captions describe the same thing.

Two readers of its reply. `read_released` repeats the public SAMA code: JSON first, else the first
number anywhere, values unclipped, and exceptions that the caller turns into 0 for a whole video.
`read_strict` wants a score between 0 and 100 and otherwise says "unparsed", which is counted.
(Chan et al. 2023.)
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Iterable, Optional

TRIES = 3
PROMPT_ID = "clair-en-1"
SYSTEM = "You compare descriptions and answer with JSON only."
NO_NUMBER = (TypeError, ValueError, OverflowError)
"""What the released reader raises at a JSON score that `float` refuses."""

_BRACES = re.compile(r"\{(.*?)\}", re.DOTALL)
_NUMBER = re.compile(r"\d*\.?\d+")
_REASON = re.compile(r"reason(.*)", re.IGNORECASE)
_FENCE = re.compile(r"^\s*```(?:json)?\s*(.*?)\s*```\s*$", re.DOTALL)


@dataclass(frozen=True)
class Verdict:
    """A score in 0..1 (released: unclipped), or None when nothing could be read."""

    score: Optional[float]
    reason: Optional[str] = None


def prompt(candidate: str, reference: str) -> str:
    """The question to the judge. The wording is ours (see PROMPT_ID), after the paper's task."""
    return (
        "Two descriptions follow.\n"
        f"Candidate description:\n- {candidate}\n"
        f"Reference description:\n- {reference}\n"
        "On a precise scale from 0 to 100, how likely is it that the candidate describes the same "
        'content as the reference? Answer with one JSON object with the key "score" (0 to 100) and '
        'the key "reason" (one sentence).'
    )


def read_released(reply: str) -> Optional[Verdict]:
    """One reply as the released code reads it; None: ask again.

    Raises:
        NO_NUMBER: the JSON holds a score that is no number, as upstream.
    """
    found = _BRACES.search(reply)
    if found:
        try:
            data = json.loads(found.group(0))
            return Verdict(float(data["score"]) / 100, data.get("reason", "Unknown"))
        except (json.JSONDecodeError, KeyError):
            pass
    number = _NUMBER.search(reply)
    if number is None:
        return None
    value = float(number.group(0))
    value = value * 100 if value < 1 else value
    return Verdict(value / 100, _reason(reply))


def read_tries(replies: Iterable[str]) -> tuple[Verdict, int]:
    """The released loop over up to three replies: (verdict, replies used); 0 when all fail."""
    used = 0
    for used, reply in enumerate(replies, start=1):
        verdict = read_released(reply)
        if verdict is not None:
            return verdict, used
        if used == TRIES:
            break
    return Verdict(0.0), used


def read_strict(reply: str) -> Verdict:
    """A JSON object with a numeric "score" in 0..100, fenced or inside other words; else unparsed.

    Keys in any case. Scores that only a guess could place (no JSON, out of range, 0.85) are not
    guessed.
    """
    fenced = _FENCE.match(reply)
    text = fenced.group(1) if fenced else reply
    for start in (at for at, letter in enumerate(text) if letter == "{"):
        try:
            data, _ = json.JSONDecoder().raw_decode(text[start:])
        except json.JSONDecodeError:
            continue
        keys = {str(key).lower(): value for key, value in data.items()}
        if "score" in keys:
            return Verdict(_percent(keys["score"]), _words(keys.get("reason")))
    return Verdict(None)


def _percent(value) -> Optional[float]:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value / 100 if 0 <= value <= 100 and (value == 0 or value >= 1) else None


def _words(value) -> Optional[str]:
    return value if isinstance(value, str) else None


def _reason(reply: str) -> str:
    found = _REASON.search(reply)
    return found.group(1).replace(":", "").strip() if found else "Unknown"
