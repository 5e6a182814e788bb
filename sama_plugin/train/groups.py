"""Parameter groups: the plugin's modules, LoRA and the mask decoder copy learn at their own rates.

Weight decay is for matrices only: norms and biases have one dimension, and the token rows are
single vectors that stand for words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Optional

from torch import nn

NEVER_DECAYED = ("sama.input_rows.", "sama.output_rows.")


@dataclass(frozen=True)
class Rates:
    """Learning rates; None means the trainer's own `learning_rate`."""

    plugin: Optional[float] = None
    lora: Optional[float] = None
    mask_decoder: Optional[float] = None


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], rates: Rates, base: float, decay: float
) -> list[dict[str, Any]]:
    """Optimiser groups of the trainable parameters, in a fixed order, empty groups left out.

    Args:
        named: `model.named_parameters()` of the whole, possibly PEFT-wrapped, host.
        base: learning rate where `rates` says nothing, and of trainable host parameters.
        decay: weight decay of matrices.
    """
    members: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            members.setdefault((_kind(name), _decays(name, parameter)), []).append(parameter)
    chosen = {
        "plugin": rates.plugin,
        "lora": rates.lora,
        "mask_decoder": rates.mask_decoder,
        "host": base,
    }
    return [
        {
            "params": members[kind, decays],
            "lr": base if rate is None else rate,
            "weight_decay": decay if decays else 0.0,
            "name": f"{kind}{'' if decays else ' (no decay)'}",
        }
        for kind, rate in chosen.items()
        for decays in (True, False)
        if (kind, decays) in members
    ]


def _kind(name: str) -> str:
    if ".lora_" in name:
        return "lora"
    inside = _inside_plugin(name)
    if inside is None:
        return "host"
    return "mask_decoder" if inside.startswith("sama.mask_decoder.") else "plugin"


def _decays(name: str, parameter: nn.Parameter) -> bool:
    shape = getattr(parameter, "ds_shape", parameter.shape)  # ZeRO-3 flattens what it partitions
    inside = _inside_plugin(name)
    return len(shape) > 1 and not (inside is not None and inside.startswith(NEVER_DECAYED))


def _inside_plugin(name: str) -> Optional[str]:
    """ "base_model.model.sama.region.x" to "sama.region.x"; None for parameters of the host."""
    prefix, found, rest = f".{name}".partition(".sama.")
    return f"sama.{rest}" if found else None
