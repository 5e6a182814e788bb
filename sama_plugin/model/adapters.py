"""LoRA on the host's language model through PEFT, and 4-bit loading through bitsandbytes.

Targets are canonical names (q, k, v, o, gate, up, down) that the host adapter turns into an
anchored pattern; the number of layers that match is compared with what the architecture has, so a
pattern that silently matches nothing, or vision layers too, is an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Mapping, Optional

from torch import nn

from sama_plugin.errors import HostError
from sama_plugin.hosts.subtrees import LANGUAGE, count_by_subtree
from sama_plugin.model.config import LoraSettings

if TYPE_CHECKING:
    from sama_plugin.model.attach import SamaModel

ADAPTER_NAME = "default"


def matched_layers(sama: SamaModel, settings: LoraSettings) -> list[str]:
    """Names of the host's layers that LoRA would wrap; HostError if their number is not what the
    host should have.
    """
    pattern = re.compile(sama.adapter.lora_pattern(sama.host, settings.targets))
    names = [name for name, _ in sama.host.named_modules() if pattern.fullmatch(name)]
    expected = sama.adapter.lora_expected(sama.host, settings.targets)
    counts = count_by_subtree(sama.host, sama.adapter, names)
    if len(names) != expected or counts[LANGUAGE] != expected:
        found = ", ".join(f"{part} {count}" for part, count in counts.items())
        raise HostError(
            f"LoRA targets {', '.join(settings.targets)} should match {expected} layers of the "
            f"language model ({sama.adapter.family(sama.host)}) of {type(sama.host).__name__} and "
            f"no others, they match: {found}; first {names[:3]}. Choose others (lora.targets), and "
            "see with `sama doctor HOST` what they match"
        )
    return names


def add_lora(
    sama: SamaModel, settings: LoraSettings, ranks: Optional[Mapping[str, int]] = None
) -> Any:
    """Wrap the host by PEFT and switch the plugin's gradients on; returns the PeftModel (the host
    itself if r is 0).

    Args:
        ranks: layers with another rank than `settings.r`, by name; alpha grows with the rank.
    """
    if settings.r == 0:
        sama.host.requires_grad_(False)
        sama.mark_trainable()
        return sama.host
    from peft import LoraConfig, get_peft_model

    matched_layers(sama, settings)
    patterns = {
        re.escape(name[name.index("layers.") :]): rank for name, rank in (ranks or {}).items()
    }
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=sama.adapter.lora_pattern(sama.host, settings.targets),
        rank_pattern=patterns,
        alpha_pattern={
            layer: settings.alpha * rank / settings.r for layer, rank in patterns.items()
        },
        bias="none",
        task_type=None,
    )
    model = get_peft_model(sama.host, config, adapter_name=ADAPTER_NAME)
    sama.mark_trainable()
    return model


def four_bit(dtype: Any) -> Any:
    """Quantisation config for `from_pretrained`: NF4, double quantisation, head and vision side of
    every host left alone.
    """
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=[
            "lm_head",
            "vision_tower",
            "multi_modal_projector",
            "vision_model",
            "mlp1",
            "visual",
        ],
    )


def lora_layers(model: nn.Module) -> dict[str, tuple[Any, Any]]:
    """Layer name (as on the bare host) to its (A, B) weights, for every LoRA layer in `model`."""
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and ADAPTER_NAME in module.lora_A:
            found[name] = (module.lora_A[ADAPTER_NAME].weight, module.lora_B[ADAPTER_NAME].weight)
    return found
