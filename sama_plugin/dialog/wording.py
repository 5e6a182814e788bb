"""Text to token ids, in two voices: what people wrote, and what templates wrote.

Words stay the user's: in `plain` text every special string is split into ordinary pieces, so a
typed `<p>`, `[SEG]` or `<|im_end|>` cannot act as a token. Where the template's own marks are words
to the tokenizer (Phi-3's `<|end|>` on Qwen), `apart` cuts typed ones, so that they are the same
words in other pieces. `literal` text comes from a chat template or from us, and its special strings
are tokens. Used by `spans`; nothing else calls a tokenizer on prompt text.
"""

from __future__ import annotations

import re
from typing import Any, Iterable, Iterator, Optional

from sama_plugin.dialog.tokens import HOST_MARKS

_BEFORE = "\n"
"""Stands before words that go on; no tokenizer joins it to a letter."""
_ALWAYS_SPLIT = ("<img>", "</img>", "<IMG_CONTEXT>", "<image>", "<video>")


class TextEncoder:
    """Encodes with one tokenizer; built after the plugin's tokens were added.

    Args:
        tokenizer: a transformers tokenizer.
        controls: strings of its chat template that people must not be able to type.
    """

    def __init__(self, tokenizer: Any, controls: Iterable[str] = ()):
        self.tokenizer = tokenizer
        self._options = _options(tokenizer)
        added = {entry.content: entry.special for entry in tokenizer.added_tokens_decoder.values()}
        self.ids = {token: number for token, number in tokenizer.get_added_vocab().items()}
        marks = [mark for mark in HOST_MARKS if mark in self.ids]
        self._split = {
            token
            for token in self.ids
            if token not in marks
            and (added.get(token, True) or token in (*_ALWAYS_SPLIT, *controls))
        }
        self._marks = _any_of(marks)
        self._special = _any_of(self.ids)
        self._forbidden = _any_of(self._split)
        self._forbidden_ids = frozenset(self.ids[token] for token in self._split)
        places = {mark: self._inside(mark) for mark in controls if mark not in self.ids}
        self._places = {mark: place for mark, place in places.items() if place is not None}
        self._typed = _any_of(self._places)

    def plain(self, text: str) -> list[int]:
        """Ids of user or assistant prose; only the host's own grounding marks stay tokens."""
        ids: list[int] = []
        for piece, is_mark in _cut(self._marks, text):
            ids += [self.ids[piece]] if is_mark else self._without_tokens(piece)
        return ids

    def apart(self, text: str) -> list[str]:
        """People's words in pieces to be encoded one by one (`plain`, then `continued`): cut inside
        each control that is words, so that it does not get the ids that steer the host. A control
        that the tokenizer spells letter by letter has no other spelling and stays whole.
        """
        cuts = [one.start() + self._places[one.group()] for one in _found(self._typed, text)]
        return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)])]

    def continued(self, text: str) -> list[int]:
        """`plain` ids of words that go on in the middle of one, where a tokenizer that opens every
        text with a space must not.
        """
        before, ids = self.plain(_BEFORE), self.plain(_BEFORE + text)
        return ids[len(before) :] if ids[: len(before)] == before else self.plain(text)

    def literal(self, text: str) -> list[int]:
        """Ids of trusted text; every added token in it is one id."""
        ids: list[int] = []
        for piece, is_token in self.cut(text):
            ids += [self.ids[piece]] if is_token else self._encode(piece)
        return ids

    def cut(self, text: str) -> Iterator[tuple[str, bool]]:
        """Pieces of trusted text, each with True for an added token, False for prose."""
        return _cut(self._special, text)

    def _without_tokens(self, text: str) -> list[int]:
        ids = self._encode(text)
        if self._forbidden_ids.isdisjoint(ids):
            return ids
        ids = []  # this tokenizer does not split: cut each special string after its first character
        for piece, is_token in _cut(self._forbidden, text):
            parts = (piece[:1], piece[1:]) if is_token else (piece,)
            for part in parts:
                ids += self._encode(part)
        return ids

    def _inside(self, mark: str) -> Optional[int]:
        """Characters of `mark` up to the second one of its longest token, at the start of a text or
        behind a space; None if every token is a character.
        """
        alone, spaced = self._joints(mark), self._joints(" " + mark)
        for joints in (alone | spaced, alone):
            meet = sorted({0, len(mark), *joints} & set(range(len(mark) + 1)))
            length, start = max((end - start, -start) for start, end in zip(meet, meet[1:]))
            if length > 1:
                return 1 - start
        return None

    def _joints(self, text: str) -> set[int]:
        """Where tokens of `text` meet, in characters of its last word."""
        ids, shift = self._encode(text), len(text.lstrip())
        ends = [len(self.tokenizer.decode(ids[:count])) for count in range(1, len(ids) + 1)]
        return {end - ends[-1] + shift for end in ends}

    def _encode(self, text: str) -> list[int]:
        if not text:
            return []
        return list(self.tokenizer.encode(text, **self._options))


def _options(tokenizer: Any) -> dict[str, bool]:
    """Keywords of `encode`: fast tokenizers of transformers before 4.40 cannot be told to split
    special strings, which `TextEncoder` then does itself.
    """
    options = {"add_special_tokens": False, "split_special_tokens": True}
    try:
        tokenizer.encode("a", **options)
    except TypeError:
        del options["split_special_tokens"]
    return options


def _any_of(tokens: Any) -> Any:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _found(pattern: Any, text: str) -> Iterator[Any]:
    return pattern.finditer(text) if pattern else iter(())


def _cut(pattern: Any, text: str) -> Iterator[tuple[str, bool]]:
    start = 0
    for match in _found(pattern, text):
        if match.start() > start:
            yield text[start : match.start()], False
        yield match.group(), True
        start = match.end()
    if start < len(text):
        yield text[start:], False
