"""A host's tokenizer with its chat template, wherever the checkpoint keeps it.

Vision-language checkpoints of transformers 4.4x (LLaVA's, for one) hold the template in
`chat_template.json` beside the processor, where a tokenizer does not look. Used wherever a host is
loaded: `train/host.py`, `infer/load.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PROCESSOR_FILES = ("chat_template.json", "processor_config.json")


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a folder or hub id; its `chat_template` may come from the processor's files.

    Raises:
        OSError, ValueError, ImportError: transformers cannot load it.
    """
    from transformers import AutoTokenizer
    from transformers.utils import cached_file

    tokenizer = AutoTokenizer.from_pretrained(path)
    for name in PROCESSOR_FILES:
        if getattr(tokenizer, "chat_template", None):
            break
        found = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
        if found is not None:
            described = json.loads(Path(found).read_text(encoding="utf-8"))
            tokenizer.chat_template = described.get("chat_template")
    return tokenizer
