"""Reading an assistant's text back: plain words, phrases, and which [SEG] belongs to which phrase.

Models forget to close marks, repeat [SEG], or were trained on older spellings, so nothing here
raises: every [SEG] yields exactly one `Phrase`, in order, and whatever is unbalanced is read as a
person would. Used on training answers (by the dataset parsers) and on generated ones (by sessions
and benchmarks).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from sama_plugin.dialog.tokens import (
    LEGACY_MASK,
    LEGACY_PHRASE_CLOSE,
    LEGACY_PHRASE_OPEN,
    LEGACY_SEG,
    PHRASE_CLOSE,
    PHRASE_OPEN,
    REGION_MARK,
    SEG,
)

_OBJECTS = r"<obj(?:ect)?\d+>"
_OBJECTS_AFTER_PHRASE = re.compile(
    rf"({re.escape(PHRASE_CLOSE)})\s*{_OBJECTS}(?:[\s,]*{_OBJECTS})*"
)
_MARKS = re.compile("(" + "|".join(map(re.escape, (PHRASE_OPEN, PHRASE_CLOSE, SEG))) + ")")


@dataclass(frozen=True)
class Phrase:
    """A phrase and its mask. `start` and `end` are character positions in `Answer.plain`.

    `seg_index` counts the [SEG]s of the answer from 0; None marks a phrase without a mask. A [SEG]
    that follows no phrase has `text` "" and `start == end`; several [SEG]s after one phrase give
    several entries with the same span.
    """

    text: str
    start: int
    end: int
    seg_index: Optional[int]


@dataclass(frozen=True)
class Answer:
    """An answer without marks, its phrases in reading order, and its number of [SEG]s."""

    plain: str
    phrases: tuple[Phrase, ...]
    n_seg: int

    @property
    def grounded(self) -> tuple[Phrase, ...]:
        """The phrases that have a mask; entry i belongs to [SEG] i."""
        return tuple(phrase for phrase in self.phrases if phrase.seg_index is not None)


def canonical(text: str) -> str:
    """An answer in the canonical spelling; object tags after a phrase become one [SEG]."""
    text = text.replace(LEGACY_PHRASE_OPEN, PHRASE_OPEN).replace(LEGACY_PHRASE_CLOSE, PHRASE_CLOSE)
    text = text.replace(LEGACY_SEG, SEG)
    return _OBJECTS_AFTER_PHRASE.sub(rf"\1 {SEG}", text)


def canonical_question(text: str) -> str:
    """A question with one `<region>` for every region: SAMA data spells it `<mask>`."""
    return text.replace(LEGACY_MASK, REGION_MARK)


def parse_answer(text: str) -> Answer:
    """Read an answer with marks. Never raises; see `Phrase` for what unbalanced marks become."""
    plain, phrases, n_seg = "", [], 0
    opened: Optional[int] = None  # where the phrase being read began
    closed: Optional[tuple[int, int]] = None  # the phrase that a [SEG] would belong to
    for piece in [*_MARKS.split(canonical(text)), PHRASE_CLOSE]:
        if piece not in (PHRASE_OPEN, PHRASE_CLOSE, SEG):
            plain = _append(plain, piece)
            closed = None if piece.strip() else closed
            continue
        if opened is not None:
            closed, opened = _strip(plain, opened), None
            phrases.append(Phrase(plain[slice(*closed)], *closed, None))
        if piece == PHRASE_OPEN:
            opened, closed = len(plain), None
        elif piece == SEG:
            span = closed or _strip(plain, len(plain))
            if closed and phrases[-1].seg_index is None:
                phrases.pop()
            phrases.append(Phrase(plain[slice(*span)], *span, n_seg))
            n_seg += 1
    return Answer(plain.rstrip(), tuple(phrases), n_seg)


def _append(plain: str, words: str) -> str:
    """Join words that follow a mark: one space between words, none before punctuation."""
    if words.lstrip()[:1] in (*".,;:!?)",):
        return plain.rstrip() + words.lstrip()
    return plain + (words.lstrip() if not plain or plain[-1].isspace() else words)


def _strip(plain: str, start: int) -> tuple[int, int]:
    """Span of `plain[start:]` without spaces around it; an empty one ends the words so far."""
    body = plain[start:].strip()
    end = len(plain.rstrip())
    return end - len(body), end
