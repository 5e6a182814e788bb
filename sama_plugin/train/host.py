"""Loading the host that is fine-tuned: a folder, a hub id, or one of the small ones that come with
the package.

Used by `run.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sama_plugin.errors import ConfigError, HostError
from sama_plugin.hosts.damage import UNLOADABLE, load_whole
from sama_plugin.hosts.packaged import PACKAGED_HOSTS
from sama_plugin.hosts.precision import dtype_option
from sama_plugin.hosts.remote_code.load import brings_its_code
from sama_plugin.hosts.remote_code.load import load as load_remote
from sama_plugin.hosts.tokenizer import load_tokenizer
from sama_plugin.registry import nearest
from sama_plugin.train.config import HostConfig


def load_host(config: HostConfig) -> tuple[Any, Any]:
    """(model, tokenizer), in the configured type, quantised if asked for.

    Raises:
        HostError: transformers cannot load it.
    """
    import torch

    dtype = getattr(torch, config.dtype)
    if config.path in PACKAGED_HOSTS.names():
        if config.quantize != "none":
            raise ConfigError(
                f"model.quantize {config.quantize} needs a host folder, not the packaged "
                f"{config.path!r}"
            )
        model, tokenizer = PACKAGED_HOSTS.get(config.path)()
        if config.attention is not None:
            _set_attention(model, config)
        return model.to(dtype), tokenizer
    return _from_folder(config, dtype)


def _set_attention(model: Any, config: HostConfig) -> None:
    try:
        model.set_attn_implementation(config.attention)
    except UNLOADABLE as error:
        raise HostError(
            f"model.attention {config.attention!r} cannot be used here: {error}"
        ) from error


def _from_folder(config: HostConfig, dtype: Any) -> tuple[Any, Any]:
    options: dict[str, Any] = {}
    if config.attention is not None:
        options["attn_implementation"] = config.attention
    if config.quantize == "4bit":
        from sama_plugin.model.adapters import four_bit

        options["quantization_config"] = four_bit(dtype)
    if brings_its_code(config.path):
        return load_remote(config.path, torch_dtype=dtype, **options)
    try:
        tokenizer = load_tokenizer(config.path)
        options.update(dtype_option(dtype))
        model = load_whole(config.path, **options)
    except UNLOADABLE as error:
        known = PACKAGED_HOSTS.names()
        near = (
            "" if Path(config.path).exists() else f" (no such folder{nearest(config.path, known)})"
        )
        raise HostError(f"cannot load the host {config.path!r}{near}: {error}") from error
    return model, tokenizer
