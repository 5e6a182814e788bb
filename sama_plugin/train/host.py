"""Loading the host that is fine-tuned: a folder, a hub id, or one of the small ones that come with
the package.

"mini" is the pre-trained twin, "tiny" a random one for trials. They are named by registry, because
the mini world stands above this room.
"""

from __future__ import annotations

from typing import Any

from sama_plugin.errors import ConfigError, HostError
from sama_plugin.registry import Registry
from sama_plugin.train.config import HostConfig

PACKAGED = Registry(
    "packaged_hosts",
    {
        "mini": "sama_plugin.miniworld.host:load_mini",
        "tiny": "sama_plugin.miniworld.host:tiny_host",
    },
)


def load_host(config: HostConfig) -> tuple[Any, Any]:
    """(model, tokenizer), in the configured type, quantised if asked for.

    Raises:
        HostError: transformers cannot load it.
    """
    import torch

    dtype = getattr(torch, config.dtype)
    if config.path in PACKAGED.names():
        if config.quantize != "none":
            raise ConfigError(
                f"model.quantize {config.quantize} needs a host folder, not the packaged "
                f"{config.path!r}"
            )
        model, tokenizer = PACKAGED.get(config.path)()
        return model.to(dtype), tokenizer
    return _from_folder(config, dtype)


def _from_folder(config: HostConfig, dtype: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    options: dict[str, Any] = {"dtype": dtype}
    if config.attention is not None:
        options["attn_implementation"] = config.attention
    if config.quantize == "4bit":
        from sama_plugin.model.adapters import four_bit

        options["quantization_config"] = four_bit(dtype)
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.path)
        model = AutoModelForImageTextToText.from_pretrained(config.path, **options)
    except (OSError, ValueError, ImportError) as error:
        raise HostError(f"cannot load the host {config.path!r}: {error}") from error
    return model, tokenizer
