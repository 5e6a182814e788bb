"""What LoRA may touch in the language models of this family, and LoRA for the tree that has none.

Names below `layers.N.` are those of `backbones.py`; InternLM2 exists only here, as code of the
checkpoint, and fuses q, k and v by key-value group.
"""

from __future__ import annotations

import re
from typing import Any, Mapping, Sequence

from sama_plugin.hosts import backbones
from sama_plugin.hosts.backbones import Backbone

INTERNLM2 = Backbone(
    {
        **{letter: "attention.wqkv" for letter in "qkv"},
        "o": "attention.wo",
        "gate": "feed_forward.w1",
        "up": "feed_forward.w3",
        "down": "feed_forward.w2",
    }
)
_PATH = r"(?:.*\.)?language_model\.(?:base_model\.model\.)?(?:model\.)?layers\.\d+\.(?:{})"


def names(family: str) -> Mapping[str, str]:
    """Canonical target to layer name."""
    return INTERNLM2.layers if family == "internlm2" else backbones.backbone(family).layers


def layers(family: str, targets: Sequence[str]) -> list[str]:
    """Different layer names of these targets; those the family lacks are left out."""
    if family == "internlm2":
        return list(dict.fromkeys(INTERNLM2.layers[target] for target in targets))
    return backbones.layers_of(family, targets)


def pattern(family: str, targets: Sequence[str]) -> str:
    """Full-match expression over module names, with or without a PeftModel in between."""
    return _PATH.format("|".join(re.escape(name) for name in layers(family, targets)))


def fused_rows(family: str, config: Any, targets: Sequence[str]) -> Mapping[str, Any]:
    """Rows of a fused layer that belong to each target, as slices or index tensors."""
    if family != "internlm2" or "q" not in targets:
        return backbones.fused_rows(config, targets)
    import torch

    heads, groups = config.num_attention_heads, config.num_key_value_heads
    size, share = config.hidden_size // heads, heads // groups
    rows = torch.arange((heads + 2 * groups) * size).view(groups, share + 2, size)
    return {
        "q": rows[:, :share].reshape(-1),
        "k": rows[:, share].reshape(-1),
        "v": rows[:, share + 1].reshape(-1),
    }


def wrap_llm_lora(
    model: Any, r: int = 128, lora_alpha: int = 256, lora_dropout: float = 0.05
) -> None:
    """LoRA on all projections of the language model, for a class that has no method of this name.

    The layers are put in place, without a PeftModel around the language model: that class's forward
    walks `language_model.model.layers`.
    """
    from peft import LoraConfig, inject_adapter_in_model

    family = model.language_model.config.model_type
    targets = [target for target in backbones.TARGETS if target in names(family)]
    config = LoraConfig(
        r=r,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        target_modules=layers(family, targets),
    )
    inject_adapter_in_model(config, model.language_model)
    model.language_model.enable_input_require_grads()
