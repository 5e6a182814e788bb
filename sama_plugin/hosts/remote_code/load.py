"""InternVL checkpoints of the hub in their own format, loaded with the code they bring.

Their class is not transformers' own, so `AutoModelForImageTextToText` does not know them. The code
in the folder runs on this machine: that is asked for, by the prefix `remote_code:` before the
path, and never assumed. The adapter of `hosts/internvl_chat` holds what comes out. Used wherever a
host is loaded: `train/host.py`, `infer/load.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sama_plugin.errors import HostError
from sama_plugin.hosts.damage import UNLOADABLE, load_whole

MODEL_TYPE = "internvl_chat"
PREFIX = "remote_code:"


def brings_its_code(path: str) -> bool:
    """Whether `path` has the prefix, or is a folder with a checkpoint of this kind."""
    return path.startswith(PREFIX) or _config(path).get("model_type") == MODEL_TYPE


def load(path: str, **options: Any) -> tuple[Any, Any]:
    """(model, tokenizer) of `remote_code:` and a folder or hub id.

    Args:
        options: of `from_pretrained` (`torch_dtype`, `quantization_config`, ...).

    Raises:
        HostError: the prefix is missing, the folder does not hold the code, or its tensors are not
        those of the model.
    """
    if not path.startswith(PREFIX):
        raise HostError(
            f"{path} is an InternVL in its own format: loading it runs Python code from that "
            f"folder. Read that code and write {PREFIX}{path}, or use the converted checkpoint "
            "(its name ends in -hf)"
        )
    from transformers import AutoModel, AutoTokenizer

    path = path[len(PREFIX) :]
    config = _config(path)
    if config and "AutoModel" not in config.get("auto_map", {}):
        raise HostError(
            f"{path}/config.json names no code (auto_map.AutoModel): copy the *.py files and the "
            "auto_map of the checkpoint it was fine-tuned from, or load it with the class of the "
            "training tree"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True, use_fast=False)
        model = load_whole(path, AutoModel, trust_remote_code=True, **options)
    except UNLOADABLE as error:
        raise HostError(f"cannot load {path} with the code it brings: {error}") from error
    return model, tokenizer


def _config(path: str) -> dict[str, Any]:
    """`config.json` of a folder; empty for anything else."""
    try:
        values = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
