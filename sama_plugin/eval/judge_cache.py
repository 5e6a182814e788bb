"""Raw answers of a judge on disk, so that scoring again costs nothing and numbers can be checked.

One JSON line an answer: key, question and answer as they were. The key covers everything that can
change an answer: endpoint, model, temperature, length, prompt id, both messages and the attempt.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Optional, Union

from sama_plugin.eval.journal import Journal
from sama_plugin.eval.judge import JudgeConfig, Question


def key_of(config: JudgeConfig, question: Question) -> str:
    """Name of an answer, 64 hexadecimal digits."""
    parts = [
        config.url.rstrip("/"),
        config.model,
        config.temperature,
        config.max_tokens,
        question.prompt_id,
        question.system,
        question.user,
        question.attempt,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class JudgeCache:
    """Answers by key; a file that a killed run left with half a line is fine."""

    def __init__(self, path: Union[str, Path]):
        self._journal = Journal(path, {"kind": "judge answers"})

    def get(self, key: str) -> Optional[dict[str, Any]]:
        """The stored answer: {"text", "tokens_in", "tokens_out", "model"}."""
        return self._journal.done.get(key)

    def put(self, key: str, question: Question, answer: dict[str, Any]) -> None:
        """Store an answer for good."""
        asked = {"prompt_id": question.prompt_id, "attempt": question.attempt}
        self._journal.append({"id": key, **asked, "user": question.user, **answer})

    def close(self) -> None:
        """Close the file."""
        self._journal.close()
