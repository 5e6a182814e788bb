"""The host's conversation template as the chat template of a tokenizer.

This family words its chats by a `Conversation` object of the checkpoint (`model.conv_template`),
not by the tokenizer's own template, and the two differ (system message). So the object is rendered
once with sentinels and written down as a Jinja template, which everything else of the plugin reads.
"""

from __future__ import annotations

import json
from typing import Any, Optional

from sama_plugin.errors import HostError

_SYSTEM, _FIRST, _ANSWER, _SECOND = "sYs5eNt1nel", "uSr5eNt1nel", "aNs5eNt1nel", "nXt5eNt1nel"


def chat_template(conversation: Any, system: Optional[str]) -> str:
    """Jinja template that renders what `conversation` renders.

    Args:
        conversation: an object with `copy`, `roles`, `system_message`, `append_message` and
            `get_prompt`.
        system: the message of chats that bring none; None for the template's own.

    Raises:
        HostError: the template drops or reorders the words of a plain conversation.
    """
    default = conversation.system_message if system is None else system
    text = _render(conversation)
    head, rest = _split(text, _SYSTEM)
    opening, rest = _split(rest, _FIRST)
    asked, rest = _split(rest, _ANSWER)
    between, rest = _split(rest, _SECOND)
    user = conversation.roles[0]
    if not (opening.endswith(user) and between.endswith(user)):
        user = _common_suffix(opening, between)
    closing, answered = opening[: len(opening) - len(user)], between[: len(between) - len(user)]
    if not default and not _keeps_empty_system(conversation):
        head = closing = ""
    return (
        "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] %}"
        f"{{% else %}}{{% set first = {_literal(default)} %}}{{% endif %}}"
        f"{{{{ {_literal(head)} + first + {_literal(closing)} }}}}"
        "{% for message in messages %}{% if message['role'] == 'user' %}"
        f"{{{{ {_literal(user)} + message['content'] + {_literal(asked)} }}}}"
        "{% elif message['role'] == 'assistant' %}"
        f"{{{{ message['content'] + {_literal(answered)} }}}}"
        "{% endif %}{% endfor %}"
    )


def _render(conversation: Any) -> str:
    chat = conversation.copy()
    chat.system_message = _SYSTEM
    for role, words in zip([*chat.roles, *chat.roles], (_FIRST, _ANSWER, _SECOND, None)):
        chat.append_message(role, words)
    return chat.get_prompt()


def _keeps_empty_system(conversation: Any) -> bool:
    """Whether a chat without system message still has the text around one."""
    empty = conversation.copy()
    empty.system_message = ""
    empty.append_message(empty.roles[0], _FIRST)
    filled = conversation.copy()
    filled.system_message = _SYSTEM
    filled.append_message(filled.roles[0], _FIRST)
    return empty.get_prompt() == filled.get_prompt().replace(_SYSTEM, "")


def _split(text: str, sentinel: str) -> tuple[str, str]:
    before, found, after = text.partition(sentinel)
    if not found or sentinel in after:
        raise HostError(
            "the host's conversation template does not repeat each message once, in order; it "
            f"rendered {text!r}"
        )
    return before, after


def _common_suffix(left: str, right: str) -> str:
    size = 0
    while size < min(len(left), len(right)) and left[-1 - size] == right[-1 - size]:
        size += 1
    return left[len(left) - size :]


def _literal(text: str) -> str:
    return json.dumps(text)
