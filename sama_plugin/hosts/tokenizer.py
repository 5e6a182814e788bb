"""A host's tokenizer: with its chat template, wherever the checkpoint keeps it, and whole tokens.

Vision-language checkpoints of transformers 4.4x (LLaVA's, for one) hold the template in
`chat_template.json` beside the processor, where a tokenizer does not look. Used wherever a host is
loaded: `train/host.py`, `infer/load.py`. At attach, each token that stands for something is tried:
the tokenizer of another host, or one that splits special strings, would turn it into words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sama_plugin.dialog.tokens import NEW_TOKENS
from sama_plugin.errors import HostError

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


def refuse_split_tokens(tokenizer: Any, placeholder: str) -> None:
    """Try the plugin's tokens, which were added before, and the host's image `placeholder`.

    Raises:
        HostError: one of them does not become its one id.
    """
    for token in (placeholder, *NEW_TOKENS):
        pieces = tokenizer.encode(token, add_special_tokens=False)
        if pieces.count(tokenizer.convert_tokens_to_ids(token)) != 1:
            read = tokenizer.convert_ids_to_tokens(pieces)
            raise HostError(
                f"the tokenizer ({type(tokenizer).__name__}, {len(tokenizer)} tokens) splits "
                f"{token!r} into {read}, and it should be one token. Load the host's own "
                "tokenizer, from the folder of its weights, and without split_special_tokens=True"
            )
