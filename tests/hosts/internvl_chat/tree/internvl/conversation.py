"""Conversations of this tree, as objects that render themselves."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field


@dataclass
class Conversation:
    name: str
    system_message: str
    roles: tuple[str, str] = ("<|im_start|>user\n", "<|im_start|>assistant\n")
    sep: str = "<|im_end|>\n"
    messages: list = field(default_factory=list)

    def append_message(self, role, words) -> None:
        self.messages.append((role, words))

    def get_prompt(self) -> str:
        text = f"<|im_start|>system\n{self.system_message}{self.sep}"
        for role, words in self.messages:
            text += role + (words + self.sep if words else "")
        return text

    def copy(self):
        return copy.deepcopy(self)


TEMPLATES = {"internvl2_5": Conversation("internvl2_5", 'You "see", and you speak.')}


def get_conv_template(name: str) -> Conversation:
    return TEMPLATES[name].copy()
