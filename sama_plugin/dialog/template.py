"""A host's chat template as five literal strings, found by probing.

Conversations grow turn by turn (sessions keep token ids and never re-tokenise), while chat
templates only render whole conversations. So the template is rendered once with sentinels in place
of the words, and the strings around them are kept. Every assistant turn opens as the generation
prompt does: what training sees is what generation continues. Used by `data/encode.py` and
`infer/session.py` through `spans`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Optional

from sama_plugin.errors import HostError
from sama_plugin.logs import warn_once

_CONTROL = re.compile(r"<[^<>\s]+>|\[/?\w+\]|(?<![^\s>\]])[A-Z]\w*:")
"""What steers a host wherever it stands: marks in brackets, and names of speakers ("USER:")."""

_SYSTEM, _FIRST, _ANSWER, _SECOND = "sYs5eNt1nel", "uSr5eNt1nel", "aNs5eNt1nel", "nXt5eNt1nel"


@dataclass(frozen=True)
class ChatTemplate:
    """Literal text around the words of a conversation; special tokens in it are tokens.

    A conversation is `opening(system)` + turns; a turn is question + `assistant_open` + answer +
    `end` + `assistant_close`, with `user_open` between an answer and the next question.
    """

    start: str
    """Before the first question without system message: default system text, user header."""
    system_open: Optional[str]
    system_close: Optional[str]
    """Around a system message, up to the first question. None: there is no place for one."""
    user_open: str
    assistant_open: str
    """From the end of a question to the start of the answer: the generation prompt."""
    end: str
    """What ends an answer, a token or words (`stops.py`); supervised."""
    assistant_close: str
    """What follows `end` before the next turn (often a newline); not supervised."""

    @property
    def controls(self) -> tuple[str, ...]:
        """Strings by which the template says who speaks and when an answer ends. They may be
        tokens, or, on a tokenizer that does not know them, words.
        """
        whole = (self.start, self.system_open, self.system_close, self.user_open)
        whole += (self.assistant_open, self.end, self.assistant_close)
        return tuple(dict.fromkeys(one for text in whole for one in _CONTROL.findall(text or "")))

    def opening(self, system: Optional[str]) -> tuple[tuple[str, bool], ...]:
        """Pieces before the first question as (text, literal); not literal: a user's words."""
        if system is None:
            return ((self.start, True),)
        if self.system_open is None or self.system_close is None:
            raise HostError(
                "the host's chat template has no place for a system message; leave it out, or put "
                "it in the question"
            )
        return ((self.system_open, True), (system, False), (self.system_close, True))

    @classmethod
    def probe(cls, tokenizer: Any) -> ChatTemplate:
        """Find the strings of `tokenizer`'s chat template.

        A tokenizer without a template gets ChatML, with one warning.

        Raises:
            HostError: the template drops or reorders the words of a plain conversation.
        """
        if not getattr(tokenizer, "chat_template", None):
            warn_once("chat-template", "the tokenizer has no chat template; using ChatML")
            return CHATML
        return _probe(tokenizer)


CHATML = ChatTemplate(
    start="<|im_start|>user\n",
    system_open="<|im_start|>system\n",
    system_close="<|im_end|>\n<|im_start|>user\n",
    user_open="<|im_start|>user\n",
    assistant_open="<|im_end|>\n<|im_start|>assistant\n",
    end="<|im_end|>",
    assistant_close="\n",
)


def _probe(tokenizer: Any) -> ChatTemplate:
    question, answer = ("user", _FIRST), ("assistant", _ANSWER)
    asked = _render(tokenizer, [question], generate=True)
    answered = _render(tokenizer, [question, answer])
    continued = _render(tokenizer, [question, answer, ("user", _SECOND)])
    start, assistant_open = _around(asked, _FIRST)
    _, after_answer = _around(answered, _ANSWER)
    between = _around(_around(continued, _ANSWER)[1], _SECOND)[0]
    if not between.startswith(after_answer):
        after_answer = _common_prefix(between, after_answer)
    end, assistant_close = _split_end(tokenizer, after_answer)
    system_open, system_close = _system(tokenizer)
    return ChatTemplate(
        start=start,
        system_open=system_open,
        system_close=system_close,
        user_open=between[len(after_answer) :],
        assistant_open=assistant_open,
        end=end,
        assistant_close=assistant_close,
    )


def _system(tokenizer: Any) -> tuple[Optional[str], Optional[str]]:
    import jinja2

    try:
        text = _render(tokenizer, [("system", _SYSTEM), ("user", _FIRST)])
    except (jinja2.exceptions.TemplateError, ValueError):  # templates refuse roles by raising
        return None, None
    if text.count(_SYSTEM) != 1 or text.index(_SYSTEM) > text.index(_FIRST):
        return None, None
    before, after = _around(text, _SYSTEM)
    return before, _around(after, _FIRST)[0]


def _render(tokenizer: Any, messages: list[tuple[str, str]], generate: bool = False) -> str:
    """Rendered text; messages as strings, or as parts where the template wants parts."""
    wanted = [words for _, words in messages]
    rendered = ""
    for as_parts in (False, True):
        conversation = [
            {"role": role, "content": [{"type": "text", "text": words}] if as_parts else words}
            for role, words in messages
        ]
        rendered = tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=generate
        )
        if all(rendered.count(words) == 1 for words in wanted):
            return rendered
    raise HostError(
        "the host's chat template does not repeat each message once; it rendered "
        f"{rendered!r} for {messages!r}"
    )


def _around(text: str, sentinel: str) -> tuple[str, str]:
    before, _, after = text.partition(sentinel)
    return before, after


def _split_end(tokenizer: Any, after_answer: str) -> tuple[str, str]:
    """What ends an answer, up to the first special token, and what follows it.

    Without a special token the template's words end it (Phi-3's `<|end|>` on another tokenizer);
    without words, the tokenizer's end token.
    """
    specials = sorted(
        {entry.content for entry in tokenizer.added_tokens_decoder.values()}, key=len, reverse=True
    )
    found = [(after_answer.find(token), -len(token), token) for token in specials]
    found = [entry for entry in found if entry[0] >= 0]
    if not found:
        words = after_answer.rstrip()
        if words:
            return words, after_answer[len(words) :]
        if not tokenizer.eos_token:
            raise HostError(
                f"nothing ends an answer: the chat template continues with {after_answer!r} "
                "and the tokenizer has no eos_token"
            )
        return tokenizer.eos_token, after_answer
    position, _, token = min(found)
    stop = position + len(token)
    return after_answer[:stop], after_answer[stop:]


def _common_prefix(left: str, right: str) -> str:
    size = next(
        (index for index, pair in enumerate(zip(left, right)) if pair[0] != pair[1]),
        min(len(left), len(right)),
    )
    return left[:size]
