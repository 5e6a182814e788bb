"""Multiple choice: which letter an answer means, and accuracy by question type.

`letter_released` repeats VideoRefer's script, whose last resort is the answer's first character
("The answer is B" is "T"). `letter_strict` reads what a person would, only letters that are
options, and otherwise says "unparsed" (None), which is counted and wrong. Used by
VideoRefer-Bench-Q.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np

from sama_plugin.errors import DataError

_BRACKETED = re.compile(r"\(([A-Z])\)")
_CLOSED = re.compile(r"([A-Z])\)")
_ALONE = re.compile(r"^[\W_]*([A-Za-z])[\W_]*$")
_LEADING = re.compile(r"^[\W_]*([A-Z])\s*[).:,\]}>*\-]")
_OPENING = re.compile(r"^[\W_]*([B-Z])\b(?!')")
_SAID = re.compile(
    r"\b(?:answer|option|choice|choose|pick|select)\b(?:\s+(?:is|would be|option|letter))*"
    r"[\s:=]*[^\w\s]*\s*([A-Za-z])(?![\w'])",
    re.IGNORECASE,
)
_NEGATED = re.compile(r"\b(?:not|isn't|neither|nor)\s+\(?([A-Z])\)?(?!\w)", re.IGNORECASE)


@dataclass(frozen=True)
class Accuracy:
    """Right answers among n; `unparsed` of the wrong ones said no option at all."""

    right: int
    n: int
    unparsed: int = 0

    @property
    def value(self) -> float:
        """Share of right answers."""
        return self.right / self.n if self.n else float("nan")


def target_letter(answer: str) -> str:
    """Letter of the first "(X)" of the reference answer, else the whole string."""
    found = _BRACKETED.search(answer)
    return found.group(1) if found else answer


def letter_released(prediction: str) -> str:
    """Letter as the released script reads it.

    Raises:
        IndexError: the answer is empty or dots only; upstream the whole file ends there.
    """
    found = _BRACKETED.search(prediction) or _CLOSED.search(prediction)
    return found.group(1) if found else prediction.replace(".", "")[0]


def right_released(answer: str, prediction: str) -> bool:
    """Lower-case equality of both letters."""
    return target_letter(answer).lower() == letter_released(prediction).lower()


def letter_strict(prediction: str, options: Sequence[str]) -> Optional[str]:
    """The option that an answer names, in this order of rules; None if none applies.

    1. one letter alone, whatever surrounds it; 2. a letter with a bracket, dot, colon or comma at
    the start, if no other is named in brackets; 3. "answer is X" and its like, the last one;
    4. letters in brackets that are not negated, if they agree; 5. the exact text of one option;
    6. a capital letter as first word (not "A", which is also an article).

    Args:
        options: full texts "(A) walks", in order.
    """
    text = unicodedata.normalize("NFKC", prediction).strip()
    known = {chr(ord("A") + place): option for place, option in enumerate(options)}
    several = len(set(_BRACKETED.findall(text))) > 1
    found = _ALONE.match(text) or (None if several else _LEADING.match(text))
    if found:
        return _known(found.group(1), known)
    said = _SAID.findall(text)
    if said:
        return _known(said[-1], known)
    denied = {letter.upper() for letter in _NEGATED.findall(text)}
    bracketed = {letter for letter in _BRACKETED.findall(text) if letter not in denied}
    if bracketed:
        return _known(bracketed.pop(), known) if len(bracketed) == 1 else None
    same = [letter for letter, option in known.items() if _plain(option) == _plain(text)]
    if len(same) == 1:
        return same[0]
    found = _OPENING.match(text)
    return _known(found.group(1), known) if found else None


def accuracies(
    types: Sequence[str], right: Sequence[bool], parsed: Optional[Sequence[bool]] = None
) -> dict[str, Accuracy]:
    """Accuracy by question type, in order of first appearance."""
    if len(types) != len(right):
        raise DataError(f"{len(types)} question types for {len(right)} answers")
    parsed = [True] * len(right) if parsed is None else parsed
    rows: dict[str, list[tuple[bool, bool]]] = {}
    for kind, hit, read in zip(types, right, parsed):
        rows.setdefault(kind, []).append((hit, read))
    return {
        kind: Accuracy(sum(h for h, _ in found), len(found), sum(not r for _, r in found))
        for kind, found in rows.items()
    }


def micro_average(by_type: dict[str, Accuracy]) -> float:
    """Right over all: the published Average."""
    n = sum(one.n for one in by_type.values())
    return sum(one.right for one in by_type.values()) / n if n else float("nan")


def macro_average(by_type: dict[str, Accuracy]) -> float:
    """Mean of the types' accuracies."""
    return float(np.mean([one.value for one in by_type.values()])) if by_type else float("nan")


def _known(letter: str, known: dict[str, str]) -> Optional[str]:
    return letter.upper() if letter.upper() in known else None


def _plain(text: str) -> str:
    words = re.sub(r"^\s*\(?[A-Z][).]\s+", "", text)
    return " ".join(re.sub(r"[\W_]+", " ", words.lower()).split())
