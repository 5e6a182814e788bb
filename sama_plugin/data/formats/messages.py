"""The messages of a conversation, two a turn: human, then gpt.

VideoRefer-700K, InternVL's JSONL and Osprey all spell a conversation this way; their parsers start
from these pairs.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from sama_plugin.data.report import RecordReport
from sama_plugin.errors import DataError

Pair = tuple[Mapping[str, Any], Mapping[str, Any]]


def in_turns(messages: Sequence[Mapping[str, Any]], report: RecordReport) -> list[Pair]:
    """(question, answer) messages; a last message without a partner is dropped, with a note.

    Raises:
        DataError: no message (`no_conversation`), or others than human, gpt, human, gpt, ...
            (`role_order`).
    """
    roles = [message.get("from") for message in messages]
    turns = len(roles) // 2
    if not turns or roles[: 2 * turns] != ["human", "gpt"] * turns:
        raise DataError(
            "turns should be human, then gpt",
            field="conversations",
            found=roles,
            reason="role_order" if roles else "no_conversation",
        )
    if len(roles) % 2:
        report.note(
            DataError("the last message has no partner; it is dropped", reason="odd_tail"),
            "conversations",
        )
    return list(zip(messages[::2], messages[1::2]))
