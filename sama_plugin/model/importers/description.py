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

_COPIED = (
    *("tokenizer*", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json"),
    *("generation_config.json", "chat_template*", "preprocessor_config.json"),
    *("processor_config.json", "video_preprocessor_config.json"),
)
_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_PHI3 = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
TEMPLATES = {"qwen_chat": _CHATML, "internlm2_chat": _CHATML, "phi3_chat": _PHI3}
"""Chat templates by the name in the config.json of SAMA and Sa2VA."""


def copy_tokenizer(source: Path, folder: Path, config: Mapping[str, Any]) -> None:
    """Tokenizer, processor and generation files, without pointers to remote code, with the chat
    template that `config` names.
    """
    for pattern in _COPIED:
        for file in source.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    settings = folder / "tokenizer_config.json"
    described = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
    described.pop("auto_map", None)
    template = TEMPLATES.get(config.get("template"))
    if template is not None:
        described["chat_template"] = template
        for file in folder.glob("chat_template*"):
            file.unlink()
    if described:
        settings.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n")
