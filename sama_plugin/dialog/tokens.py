"""The plugin's tokens: their strings, their ids in a tokenizer, and the spellings that older data
uses for them.

Strings are what a checkpoint stores; ids differ from host to host. `<p> phrase </p> [SEG]` is the
field's spelling of a grounded phrase (SAMA, Sa2VA, GLaMM); region and context slots are ours, so
that the host's image placeholder keeps one meaning. Used by everything that builds or reads token
sequences.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sama_plugin.errors import ConfigError, RegionError

SEG = "[SEG]"
PHRASE_OPEN = "<p>"
PHRASE_CLOSE = "</p>"
REGION_OPEN = "<vp>"
REGION_CLOSE = "</vp>"
REGION_SLOT = "<|region|>"
CONTEXT_SLOT = "<|context|>"
NEW_TOKENS = (
    SEG,
    PHRASE_OPEN,
    PHRASE_CLOSE,
    REGION_OPEN,
    REGION_CLOSE,
    REGION_SLOT,
    CONTEXT_SLOT,
)

KIN = {SEG: "<box>", PHRASE_OPEN: "<ref>", PHRASE_CLOSE: "</ref>"}
"""New token -> the token by which InternVL and Qwen already say the same in boxes."""

REGION_MARK = "<region>"
"""Stands for one region in a Sample's user text. A marker for our code, never a token."""

LEGACY_MASK = "<mask>"
LEGACY_SEG = "<seg>"
LEGACY_PHRASE_OPEN = "<g_s>"
LEGACY_PHRASE_CLOSE = "<g_e>"

HOST_MARKS = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")
"""The host's own grounding marks: they stay the host's tokens wherever they are typed."""

HALF_CHARACTER = re.compile("[\ud800-\udfff]")
"""A lone surrogate, as Python reads bytes that are no UTF-8; no tokenizer reads it."""


@dataclass(frozen=True)
class TokenIds:
    """Ids of `NEW_TOKENS` in one tokenizer, in the same order."""

    seg: int
    phrase_open: int
    phrase_close: int
    region_open: int
    region_close: int
    region: int
    context: int

    def in_order(self) -> tuple[int, ...]:
        """The seven ids in the order of `NEW_TOKENS`; row i of a row adapter belongs to id i."""
        return (
            self.seg,
            self.phrase_open,
            self.phrase_close,
            self.region_open,
            self.region_close,
            self.region,
            self.context,
        )


def add_tokens(tokenizer: Any) -> TokenIds:
    """Add the plugin's tokens to `tokenizer` where they are absent, and return all seven ids.

    `tokenizer` is changed in place; callers that share it with other code pass a copy.
    """
    missing = [token for token in NEW_TOKENS if _single_id(tokenizer, token) is None]
    if missing:
        tokenizer.add_tokens(missing, special_tokens=True)
    return token_ids(tokenizer)


def token_ids(tokenizer: Any) -> TokenIds:
    """Ids of the plugin's tokens in a tokenizer; ConfigError names the missing ones."""
    ids = [_single_id(tokenizer, token) for token in NEW_TOKENS]
    missing = [token for token, found in zip(NEW_TOKENS, ids) if found is None]
    if missing:
        raise ConfigError(
            f"the tokenizer lacks the plugin's tokens {', '.join(missing)}; "
            "pass it through sama_plugin.dialog.tokens.add_tokens first"
        )
    return TokenIds(*ids)


def kin_ids(tokenizer: Any) -> dict[int, int]:
    """Place in `NEW_TOKENS` -> id of its kin, for those that the tokenizer has as one token."""
    found = {NEW_TOKENS.index(new): _single_id(tokenizer, kin) for new, kin in KIN.items()}
    return {place: kin for place, kin in found.items() if kin is not None}


def check_user_text(text: str) -> None:
    """Refuse placeholders typed by a user; every other string, `<p>` and `[SEG]` included, is
    ordinary text.

    Raises:
        RegionError: `text` holds a region mark, a region or context slot, or bytes that are no
            UTF-8 (which Python reads from a terminal as lone surrogates).
    """
    damaged = HALF_CHARACTER.search(text)
    if damaged:
        raise RegionError(
            f"the text {text!r} holds bytes at character {damaged.start()} that are no UTF-8; type "
            "it again, or set the terminal to UTF-8"
        )
    for placeholder in (REGION_MARK, REGION_SLOT, CONTEXT_SLOT):
        position = text.find(placeholder)
        if position >= 0:
            raise RegionError(
                f"the text holds the placeholder {placeholder!r} at character {position}; a region "
                "is mentioned by its name: 'what does @dog do?' after session.region('dog', ...)"
            )


def _single_id(tokenizer: Any, token: str) -> Any:
    return tokenizer.get_added_vocab().get(token)
