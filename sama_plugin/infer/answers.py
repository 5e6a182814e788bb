"""From generated token ids to words, while they arrive and when all are there.

Marks are known by their ids, never by their spelling: a `[SEG]` that the model spells out in
letters is text. The streamed pieces, joined, equal `parse_answer(...).plain`, so that what was
printed is what is stored. Used by `session.py`; the events are what `session.stream` yields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence, Union

from sama_plugin.dialog import parse
from sama_plugin.dialog.stops import NEVER, Stop
from sama_plugin.dialog.tokens import PHRASE_CLOSE, PHRASE_OPEN, SEG, TokenIds

if TYPE_CHECKING:
    from sama_plugin.media.frames import FramePlan
    from sama_plugin.media.tracks import MaskTrack


@dataclass(frozen=True)
class GroundedPhrase:
    """A phrase of an answer that carries a mask track.

    `name` ("2.1": turn 2, first [SEG]) is how later questions point at it: "what does @2.1 do?".
    `start` and `end` are character positions in `Answer.text`. `track` is None until masks were
    asked for. `score` in [0, 1] is the highest probability over the prompted frames that the thing
    is there at all.
    """

    name: str
    text: str
    start: int
    end: int
    track: Optional[MaskTrack] = None
    score: Optional[float] = None


@dataclass(frozen=True)
class Timing:
    """Seconds spent on encoding frames, on reading and writing text, and on masks."""

    frames: float = 0.0
    text: float = 0.0
    masks: float = 0.0


@dataclass(frozen=True)
class Answer:
    """One answer: words without marks, grounded phrases in reading order, new token ids, the turn's
    frame plan.

    `finished` is False when `max_new_tokens` cut the answer off.
    """

    text: str
    phrases: tuple[GroundedPhrase, ...]
    ids: tuple[int, ...]
    plan: FramePlan
    seconds: Timing
    finished: bool = True


@dataclass(frozen=True)
class TextPiece:
    """The next words of the answer."""

    text: str


@dataclass(frozen=True)
class PhraseStart:
    """The words that follow belong to a phrase."""


@dataclass(frozen=True)
class PhraseEnd:
    """The phrase is complete; its mask, if it gets one, comes as `MaskReady` when the answer has
    ended.
    """

    text: str


@dataclass(frozen=True)
class MaskReady:
    """A phrase's mask track has been computed."""

    phrase: GroundedPhrase


Event = Union[TextPiece, PhraseStart, PhraseEnd, MaskReady]


class AnswerStream:
    """Turns token ids, one at a time, into events.

    Spaces are held back until the next word is known, because a mark between two spaces leaves one
    and a mark before punctuation leaves none. Bytes of an unfinished character are held back too,
    and words that may turn out to be the beginning of `stop`.
    """

    def __init__(
        self,
        tokenizer: Any,
        ids: TokenIds,
        emit: Callable[[Event], None],
        stop: Stop = NEVER,
    ):
        self.tokenizer, self.ids, self.emit, self.stop = tokenizer, ids, emit, stop
        self._run: list[int] = []  # token ids since the last mark
        self._shown = 0  # characters of the run that were read
        self._spaces = ""  # held back
        self._full = False  # spaces before a mark are held: those after it are dropped
        self._crossed = True  # a mark (or the start) lies between the last word and here
        self._began = False
        self._opening = False  # a phrase begins with the next word
        self._phrase: Optional[str] = None

    def feed(self, token: int) -> None:
        """Read the next token id."""
        if token not in (self.ids.seg, self.ids.phrase_open, self.ids.phrase_close):
            self._run.append(token)
            self._read(self.stop.before(self._text().rstrip("\ufffd")))
            return
        self._read(self._text())  # a mark follows: no stop began before it
        self._run, self._shown, self._crossed = [], 0, True
        self._full = bool(self._spaces)
        self._close()
        if token == self.ids.phrase_open:
            self._opening = True

    def finish(self) -> None:
        """Emit what was held back; trailing spaces and a stop, even half of one, are dropped."""
        self._read(self.stop.before(self._text()))
        self._close()

    def _text(self) -> str:
        """Words since the last mark."""
        return _decode(self.tokenizer, self._run)

    def _read(self, text: str) -> None:
        new, self._shown = text[self._shown :], max(self._shown, len(text))
        words = new.lstrip()
        if not words:
            self._hold(new)
            return
        self._hold(new[: len(new) - len(words)])
        body = words.rstrip()
        spaces = "" if self._crossed and (not self._began or body[0] in ".,;:!?)") else self._spaces
        self._show(spaces, body)
        self._spaces, self._full, self._crossed = words[len(body) :], False, False

    def _hold(self, spaces: str) -> None:
        if not self._full:
            self._spaces += spaces

    def _show(self, spaces: str, body: str) -> None:
        if self._opening:
            if spaces:
                self.emit(TextPiece(spaces))
            self.emit(PhraseStart())
            self._opening, self._phrase, spaces = False, "", ""
        self._began = True
        if self._phrase is not None:
            self._phrase += spaces + body
        self.emit(TextPiece(spaces + body))

    def _close(self) -> None:
        self._opening = False
        if self._phrase is not None:
            self.emit(PhraseEnd(self._phrase))
            self._phrase = None


def marked_text(tokenizer: Any, ids: TokenIds, answer: Sequence[int], stop: Stop = NEVER) -> str:
    """The answer up to `stop` with its marks spelt out, for people; what `Turn.assistant`
    stores.
    """
    return _restore(_protected(tokenizer, ids, answer, stop))


def read_answer(
    tokenizer: Any, ids: TokenIds, answer: Sequence[int], stop: Stop = NEVER
) -> parse.Answer:
    """Plain words and phrases of generated ids up to `stop`; only real marks count as marks."""
    found = parse.parse_answer(_protected(tokenizer, ids, answer, stop))
    phrases = tuple(
        parse.Phrase(_restore(phrase.text), phrase.start, phrase.end, phrase.seg_index)
        for phrase in found.phrases
    )
    return parse.Answer(_restore(found.plain), phrases, found.n_seg)


def _protected(tokenizer: Any, ids: TokenIds, answer: Sequence[int], stop: Stop) -> str:
    """Marks as strings, and no other "<" or "[" in the text, so that nothing else can be read as a
    mark.
    """
    marks = {ids.seg: SEG, ids.phrase_open: PHRASE_OPEN, ids.phrase_close: PHRASE_CLOSE}
    pieces, run = [], []
    for token in [*answer, None]:
        if token is not None and token not in marks:
            run.append(token)
            continue
        words = _decode(tokenizer, run)
        words = stop.before(words) if token is None else words
        pieces.append(words.replace("<", "\ue000").replace("[", "\ue001"))
        pieces.append(marks.get(token, ""))
        run = []
    return "".join(pieces)


def _restore(text: str) -> str:
    return text.replace("\ue000", "<").replace("\ue001", "[")


def _decode(tokenizer: Any, run: Sequence[int]) -> str:
    if not run:
        return ""
    return tokenizer.decode(run, skip_special_tokens=True, clean_up_tokenization_spaces=False)
