"""The files beside the weights of an imported host: tokenizer, chat template, processor.

SAMA and Sa2VA name their conversation template in `config.json`, and their tokenizer may carry that
of the language model they started from, which is another; the named one wins. Used by the importers
of hosts.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Mapping

from sama_plugin.errors import CheckpointError

_COPIED = (
    *("tokenizer*", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json"),
    *("generation_config.json", "chat_template*", "preprocessor_config.json"),
    *("processor_config.json", "video_preprocessor_config.json"),
)
_CONTENT = (
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif part['type'] == 'video' %}{{ '<video>\n' }}"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
)
_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    f"{_CONTENT}{{{{ '<|im_end|>\n' }}}}{{% endfor %}}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_PHI3 = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' }}"
    f"{_CONTENT}{{{{ '<|end|>\n' }}}}{{% endfor %}}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
TEMPLATES = {"qwen_chat": _CHATML, "internlm2_chat": _CHATML, "phi3_chat": _PHI3}
"""Chat templates by the name in the config.json of SAMA and Sa2VA."""


def copy_tokenizer(source: Path, folder: Path, config: Mapping[str, Any]) -> None:
    """Tokenizer, processor and generation files, without pointers to remote code, with the chat
    template that `config` names.

    Raises:
        CheckpointError: the tokenizer is remote code only.
    """
    for pattern in _COPIED:
        for file in source.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    settings = folder / "tokenizer_config.json"
    described = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
    if "AutoTokenizer" in described.pop("auto_map", {}):
        _check_portable(source, described)
        described["tokenizer_class"] = "PreTrainedTokenizerFast"
    template = TEMPLATES.get(config.get("template"))
    if template is not None:
        described["chat_template"] = template
        for file in folder.glob("chat_template*"):
            file.unlink()
    if described:
        settings.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n")


def _check_portable(source: Path, described: Mapping[str, Any]) -> None:
    if not (source / "tokenizer.json").is_file():
        name = described.get("tokenizer_class", "of its own")
        raise CheckpointError(
            f"the tokenizer of {source} is remote code ({name}) and has no tokenizer.json, without "
            "which nothing else can load it. Where you trust that code, make the file once: "
            f"AutoTokenizer.from_pretrained({str(source)!r}, trust_remote_code=True, "
            f"use_fast=True).save_pretrained({str(source)!r})"
        )
