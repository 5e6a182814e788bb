"""Checks of `sama doctor` that need torch: devices, and whether a host can be held and trained."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

from sama_plugin.dialog.tokens import add_tokens
from sama_plugin.errors import SamaError
from sama_plugin.hosts.base import find_adapter
from sama_plugin.hosts.subtrees import LANGUAGE, count_by_subtree
from sama_plugin.hosts.tokenizer import refuse_split_tokens
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import load_adapter, read_config
from sama_plugin.model.config import LoraSettings
from sama_plugin.patching.checks import Check
from sama_plugin.train.config import HostConfig
from sama_plugin.train.host import load_host


def device_checks() -> list[Check]:
    """GPUs, or how many CPU threads there are without one."""
    import torch

    if not torch.cuda.is_available():
        threads = f"no GPU; CPU with {torch.get_num_threads()} threads"
        return [Check("device", "ok", threads)]
    return [
        Check(f"device {index}", "ok", _gpu(torch.cuda.get_device_properties(index)))
        for index in range(torch.cuda.device_count())
    ]


def host_checks(path: str) -> list[Check]:
    """Which adapter holds the host, its geometry, the new tokens' ids, and how many layers LoRA
    matches in each part of it."""
    try:
        model, tokenizer = load_host(HostConfig(path=path))
        adapter = find_adapter(model)
        lora = lora_checks(model, adapter, LoraSettings())
        tokenizer = adapter.chat_tokenizer(model, copy.deepcopy(tokenizer))
        ids = add_tokens(tokenizer).in_order()
        refuse_split_tokens(tokenizer, adapter.image_token())
    except SamaError as error:
        return [Check("host", "error", str(error))]
    height, width = adapter.grid(model)
    table = adapter.input_embeddings(model).weight.shape[0]
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    what = f"{type(model).__name__}, adapter {adapter.name}, {adapter.family(model)}, {size:.1f} M"
    return [
        Check("host", "ok", f"{path}: {what} parameters"),
        Check(
            "visual grid", "ok", f"{height} x {width} tokens a frame, width {adapter.width(model)}"
        ),
        Check("token ids", "ok", f"{ids[0]} to {ids[-1]} beside a table of {table} rows"),
        *lora,
    ]


def fit_checks(folder: Path, path: str) -> list[Check]:
    """Whether the checkpoint in `folder` loads on the host at `path`."""
    try:
        model, tokenizer = load_host(HostConfig(path=path))
        load_adapter(attach(model, tokenizer, read_config(folder)), folder)
    except SamaError as error:
        return [Check("fits", "error", str(error))]
    return [Check("fits", "ok", f"{folder} loads on {path}")]


def lora_checks(model: Any, adapter: Any, settings: LoraSettings) -> list[Check]:
    """For each part of the host: layers that the LoRA targets match, against what they should."""
    pattern = re.compile(adapter.lora_pattern(model, settings.targets))
    layers = [name for name, _ in model.named_modules() if pattern.fullmatch(name)]
    expected = {LANGUAGE: adapter.lora_expected(model, settings.targets)}
    return [
        Check(
            f"LoRA {part}",
            "ok" if count == expected.get(part, 0) else "error",
            f"{count} layers match {', '.join(settings.targets)}; {expected.get(part, 0)} expected",
        )
        for part, count in count_by_subtree(model, adapter, layers).items()
    ]


def _gpu(properties: Any) -> str:
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
