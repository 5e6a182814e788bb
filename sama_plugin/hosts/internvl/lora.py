"""What LoRA may touch in the language model under native InternVL, as data.

The pattern is anchored on the language model's path, so vision layers of the same name never match;
`.*` before it
admits the prefixes that PEFT wrapping adds.
"""

from __future__ import annotations

import re
from typing import Sequence

from sama_plugin.errors import ConfigError, HostError
from sama_plugin.registry import nearest

_SPLIT = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}

LAYERS = {family: _SPLIT for family in ("qwen2", "qwen3", "llama", "mistral")}


def layer_names(family: str) -> dict[str, str]:
    """Canonical target to layer name below `layers.N.` for a language-model family."""
    if family not in LAYERS:
        raise HostError(
            f"no LoRA targets are known for language model {family!r}{nearest(family, LAYERS)}; "
            f"known: {', '.join(sorted(LAYERS))}"
        )
    return dict(LAYERS[family])


def pattern(family: str, targets: Sequence[str]) -> str:
    """Regular expression (full match) over module names for these canonical targets."""
    names = layer_names(family)
    for target in targets:
        if target not in names:
            raise ConfigError(
                f"unknown LoRA target {target!r}{nearest(target, names)}; known: {', '.join(names)}"
            )
    choices = "|".join(re.escape(names[target]) for target in targets)
    return rf"(?:.*\.)?language_model\.layers\.\d+\.(?:{choices})"
