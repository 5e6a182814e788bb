"""Language models under the hosts, as data: what LoRA may touch and what their heads do.

One line a family. Canonical LoRA targets are q, k, v, o, gate, up, down; where a family fuses
several of them in one layer, they name the same layer (in the order of its rows). Experts of a
mixture are left alone: their weights are one fused tensor in some versions of transformers and many
layers in others. Used by `native.py`; a new family is one line here and one line in the table test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from sama_plugin.errors import ConfigError, HostError
from sama_plugin.hosts.base import Head
from sama_plugin.logs import warn_once
from sama_plugin.registry import nearest

TARGETS = ("q", "k", "v", "o", "gate", "up", "down")


@dataclass(frozen=True)
class Backbone:
    """LoRA layers of one family, by name below `layers.N.`.

    Attributes:
        layers: canonical target to layer name.
        absent: target to the reason why the family has no such layer.
    """

    layers: Mapping[str, str]
    absent: Mapping[str, str] = field(default_factory=dict)


_ATTENTION = {letter: f"self_attn.{letter}_proj" for letter in "qkvo"}
_MLP = {name: f"mlp.{name}_proj" for name in ("gate", "up", "down")}
_FUSED_MLP = {"gate": "mlp.gate_up_proj", "up": "mlp.gate_up_proj", "down": "mlp.down_proj"}
_FUSED_QKV = {letter: "self_attn.qkv_proj" for letter in "qkv"}
_EXPERTS = {name: "its experts are left alone" for name in _MLP}

SPLIT = Backbone({**_ATTENTION, **_MLP})
FUSED_MLP = Backbone({**_ATTENTION, **_FUSED_MLP})
EXPERTS = Backbone(_ATTENTION, _EXPERTS)

BACKBONES: dict[str, Backbone] = {
    "qwen2": SPLIT,
    "qwen3": SPLIT,
    "llama": SPLIT,
    "internlm3": SPLIT,
    "mistral": SPLIT,
    "granite": SPLIT,
    "olmo2": SPLIT,
    "gemma2": SPLIT,
    "gemma3_text": SPLIT,
    "glm4": FUSED_MLP,
    "phi3": Backbone({**_FUSED_QKV, "o": "self_attn.o_proj", **_FUSED_MLP}),
    "phi": Backbone(
        {
            **{letter: f"self_attn.{letter}_proj" for letter in "qkv"},
            "o": "self_attn.dense",
            "up": "mlp.fc1",
            "down": "mlp.fc2",
        },
        {"gate": "its MLP has no gate"},
    ),
    "mixtral": EXPERTS,
    "qwen3_moe": EXPERTS,
    "gpt_oss": EXPERTS,
}


def backbone(family: str) -> Backbone:
    """The entry of a language-model family; HostError names the known ones."""
    if family not in BACKBONES:
        raise HostError(
            f"no LoRA targets are known for language model {family!r}{nearest(family, BACKBONES)}; "
            f"known: {', '.join(sorted(BACKBONES))}"
        )
    return BACKBONES[family]


def layers_of(family: str, targets: Sequence[str]) -> list[str]:
    """Different layer names of these targets, in order; targets the family lacks are left out with
    one warning.

    Raises:
        ConfigError: an unknown target, or none of them exists in this family.
    """
    known = backbone(family)
    for target in targets:
        if target not in TARGETS:
            raise ConfigError(
                f"unknown LoRA target {target!r}{nearest(target, TARGETS)}; known: "
                f"{', '.join(TARGETS)}"
            )
    missing = [target for target in targets if target not in known.layers]
    if missing:
        reason = known.absent[missing[0]]
        warn_once(f"lora-{family}", f"LoRA leaves out {', '.join(missing)} of {family}: {reason}")
    found = list(dict.fromkeys(known.layers[t] for t in targets if t in known.layers))
    if not found:
        raise ConfigError(
            f"LoRA targets {', '.join(targets)} do not exist in {family}; it has "
            f"{', '.join(known.layers)}"
        )
    return found


def pattern(family: str, targets: Sequence[str]) -> str:
    """Regular expression (full match) over module names for these targets.

    It is anchored on the language model's path, so vision layers of the same name never match;
    `.*` before it admits the prefixes that PEFT wrapping adds.
    """
    choices = "|".join(re.escape(name) for name in layers_of(family, targets))
    return rf"(?:.*\.)?language_model\.layers\.\d+\.(?:{choices})"


def fused_rows(config: Any, targets: Sequence[str]) -> dict[str, slice]:
    """Rows of a fused layer's output that belong to each of its targets, in the order given.

    Args:
        config: the language model's configuration.
    """
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads, kv = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    rows = {"q": heads * size, "k": kv * size, "v": kv * size}
    found, start = {}, 0
    for target in targets:
        count = rows.get(target, config.intermediate_size)
        found[target] = slice(start, start + count)
        start += count
    return found


def head_of(config: Any) -> Head:
    """What the family's own head does to its logits: read from the configuration, where granite
    divides, cohere multiplies and gemma caps.
    """
    scale = 1.0
    if getattr(config, "logits_scaling", None):
        scale /= config.logits_scaling
    if getattr(config, "logit_scale", None):
        scale *= config.logit_scale
    return Head(scale, getattr(config, "final_logit_softcapping", None))


def router_loss(config: Any, router: Any, attention_mask: Any) -> Any:
    """Load-balancing loss as the family's own language model adds it, weighted; None when its
    configuration does not ask for it (`output_router_logits`).

    Args:
        router: the decoder's router logits, one tensor a layer; None if it returned none.
    """
    if not getattr(config, "output_router_logits", False) or not router:
        return None
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    experts = getattr(config, "num_local_experts", None) or config.num_experts
    loss = load_balancing_loss_func(router, experts, config.num_experts_per_tok, attention_mask)
    return config.router_aux_loss_coef * loss.to(router[0].device)
