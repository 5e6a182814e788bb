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
from sama_plugin.model.importers.spm_tokenizer import write_fast_tokenizer

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
_INTERNLM = "{{ bos_token }}" + _CHATML
TEMPLATES = {"qwen_chat": _CHATML, "internlm2_chat": _INTERNLM, "phi3_chat": _PHI3}
"""Chat templates by the name in the config.json of SAMA and Sa2VA; InternLM2's tokenizer opens
every text with its first token.
"""


def copy_tokenizer(source: Path, folder: Path, config: Mapping[str, Any]) -> None:
    """Tokenizer, processor and generation files, without pointers to remote code, with the chat
    template that `config` names.

    A tokenizer that is remote code around a sentencepiece model becomes a fast one.

    Raises:
        CheckpointError: the tokenizer is remote code only, or its model is damaged.
    """
    for pattern in _COPIED:
        for file in source.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    settings = folder / "tokenizer_config.json"
    described = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
    if "AutoTokenizer" in described.pop("auto_map", {}):
        if not (source / "tokenizer.json").is_file():
            _make_portable(source, described, folder)
        described["tokenizer_class"] = "PreTrainedTokenizerFast"
    template = TEMPLATES.get(config.get("template"))
    if template is not None:
        described["chat_template"] = template
        for file in folder.glob("chat_template*"):
            file.unlink()
    if described:
        settings.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n")


def _make_portable(source: Path, described: dict[str, Any], folder: Path) -> None:
    """`tokenizer.json` from `tokenizer.model`, which is left behind."""
    if not (source / "tokenizer.model").is_file():
        name = described.get("tokenizer_class", "of its own")
        raise CheckpointError(
            f"the tokenizer of {source} is remote code ({name}) and has neither tokenizer.json nor "
            "tokenizer.model, without which nothing else can load it. Where you trust that code, "
            f"make the file once: AutoTokenizer.from_pretrained({str(source)!r}, "
            f"trust_remote_code=True, use_fast=True).save_pretrained({str(source)!r})"
        )
    write_fast_tokenizer(source, described, folder / "tokenizer.json")
    (folder / "tokenizer.model").unlink()
    if not any(folder.glob("chat_template*")):
        described.setdefault("chat_template", _INTERNLM)
