"""What ends an answer: one token of the host, or words that its tokenizer writes with several.

SAMA-4B and Sa2VA-4B were trained with Phi-3's `<|end|>` on a Qwen tokenizer, where it is ordinary
text; byte pairs may even join its first character to the answer's last one. Such an end is known by
its spelling, never by ids. A token of the host is known by its id. Used while an answer is
generated (`model/generate.py`), streamed and read (`infer/answers.py`), and put into a conversation
(`infer/session.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

from sama_plugin.dialog.template import ChatTemplate
from sama_plugin.dialog.wording import TextEncoder


@dataclass(frozen=True)
class Stop:
    """The end of an answer.

    Attributes:
        ids: tokens each of which ends an answer.
        text: words that end one; empty where the end is a token.
        end: token ids of the whole end, as the template writes it.
    """

    ids: tuple[int, ...] = ()
    text: str = ""
    end: tuple[int, ...] = ()

    @classmethod
    def of(cls, template: ChatTemplate, encoder: TextEncoder) -> Stop:
        """The end that `template` gives its answers, as `encoder`'s tokenizer writes it.

        Where it is words, the tokenizer's own end token ends an answer too, as in the released
        code.
        """
        end = tuple(encoder.literal(template.end))
        if end[-1] in encoder.ids.values():
            return cls((end[-1],), end=end)
        eos = encoder.tokenizer.eos_token_id
        return cls(() if eos is None else (eos,), template.end.strip(), end)

    def reached(self, tokenizer: Any, said: Sequence[int]) -> bool:
        """Whether the last token of `said`, none of whose earlier ones did, ends the answer."""
        if said[-1] in self.ids:
            return True
        if not self.text:
            return False
        most = len(self.text.encode())  # a token is a byte at least
        return self.text in _spelt(tokenizer, said[-most:])

    def before(self, text: str) -> str:
        """`text` up to the end, or up to what may be its beginning."""
        if not self.text:
            return text
        position = text.find(self.text)
        return text[:position] if position >= 0 else text[: len(text) - self._begun(text)]

    def completed(
        self, encoder: TextEncoder, said: Sequence[int], stopped: bool
    ) -> tuple[int, ...]:
        """`said` with the end that the template wants after it, of which it may hold a part.

        Args:
            said: generated ids. stopped: whether they ended by themselves.
        """
        if not self.text:
            return (*said, *(() if stopped else self.end))
        if said and said[-1] in self.ids:
            said = said[:-1]
        elif stopped:
            return tuple(said)
        tail = _spelt(encoder.tokenizer, said[-len(self.text.encode()) :])
        missing = encoder.plain(self.text[self._begun(tail) :]) if self._begun(tail) else self.end
        whole = (*said, *missing)
        finished = self.text in _spelt(encoder.tokenizer, whole[-2 * len(self.text.encode()) :])
        return whole if finished else (*said, *self.end)

    def _begun(self, text: str) -> int:
        """Characters at the end of `text` that the end begins with."""
        sizes = range(min(len(text), len(self.text) - 1), 0, -1)
        return next((size for size in sizes if text.endswith(self.text[:size])), 0)


NEVER = Stop()
"""Nothing ends an answer."""


def _spelt(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
