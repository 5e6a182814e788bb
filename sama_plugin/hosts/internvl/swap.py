"""Native InternVL on another language model: the vision tower stays, the decoder and head change.

The projector's first half ends where the language model begins, so what of it can stay depends on
the width: with the same width it stays whole (and still has to learn the new model's space), else
only its norm does. What a family's own head does to its logits cannot be said to a plain linear
head: a scale is folded into the head's weights, a soft cap is given back by the plugin during its
calls (`hosts.base.Head`). Used by `sama swap-llm`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sama_plugin.errors import HostError
from sama_plugin.hosts import backbones
from sama_plugin.hosts.internvl.adapter import InternVLAdapter
from sama_plugin.hosts.internvl.prompt import IMAGE_CLOSE, IMAGE_OPEN, IMAGE_TOKEN

VIDEO_TOKEN = "<video>"
NAMED_TOKENS = {
    "start_image_token": IMAGE_OPEN,
    "end_image_token": IMAGE_CLOSE,
    "context_image_token": IMAGE_TOKEN,
    "video_token": VIDEO_TOKEN,
}
"""What the native processor calls the host's tokens."""


@dataclass(frozen=True)
class Swapped:
    """A host on its new language model, and what of it is old and new.

    Attributes:
        kept: parts whose weights are the old host's. taken: parts of the new language model.
        fresh: parts that were initialised again and must be trained. notes: what else changed.
    """

    model: Any
    tokenizer: Any
    kept: tuple[str, ...]
    taken: tuple[str, ...]
    fresh: tuple[str, ...]
    notes: tuple[str, ...]


@torch.no_grad()
def swap_language_model(host: Any, language: Any, tokenizer: Any, seed: int = 0) -> Swapped:
    """Put a causal language model under native InternVL; `host` and `language` are used up.

    Args:
        host: `InternVLForConditionalGeneration`. language: a transformers `...ForCausalLM`.
        tokenizer: the language model's; a copy gets the host's image tokens.
        seed: of the projector's new weights.

    Raises:
        HostError: not native InternVL, an unknown family, or a tokenizer without chat template.
    """
    _check(host, language, tokenizer)
    tokenizer = copy.deepcopy(tokenizer)
    added = _add_image_tokens(language, tokenizer)
    notes = [f"{added} tokens added to the language model's tables"] if added else []
    notes += _plain_head(language)
    before, text = host.config.text_config.hidden_size, language.config
    host.model.language_model, host.lm_head = language.model, language.lm_head
    host.config.text_config = text
    host.config.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    host.config.tie_word_embeddings = text.tie_word_embeddings
    host.generation_config = language.generation_config
    kept, fresh = ["vision tower"], []
    if text.hidden_size == before:
        kept.append("projector (same width; it has to learn the new model's space)")
    else:
        _new_projector(host, seed)
        kept.append("norm of the projector")
        fresh.append(f"linear layers of the projector (width {before} to {text.hidden_size})")
    family = f"{text.model_type} decoder, embeddings and head"
    return Swapped(host, tokenizer, tuple(kept), (family,), tuple(fresh), tuple(notes))


def _check(host: Any, language: Any, tokenizer: Any) -> None:
    if not InternVLAdapter().detect(host):
        raise HostError(
            f"{type(host).__name__} is not native InternVL; its language model cannot be swapped. "
            "Bring an InternVL of another class to it with `sama import` first"
        )
    family = language.config.model_type
    if family not in backbones.BACKBONES:
        backbones.backbone(family)  # raises, with the known ones
    if not isinstance(getattr(language, "lm_head", None), nn.Linear):
        raise HostError(f"{type(language).__name__} has no linear lm_head; pass a ...ForCausalLM")
    if language.lm_head.bias is not None:
        raise HostError(
            f"the head of {type(language).__name__} has a bias, which native InternVL's has not; "
            "choose another language model"
        )
    if not getattr(tokenizer, "chat_template", None):
        raise HostError(
            f"the tokenizer of {type(language).__name__} has no chat template; use the instruct "
            "version of the language model, or give its tokenizer one"
        )


def _add_image_tokens(language: Any, tokenizer: Any) -> int:
    """Image tokens in the tokenizer, rows for them in the tables at the mean of the others."""
    missing = [token for token in NAMED_TOKENS.values() if token not in tokenizer.get_vocab()]
    tokenizer.add_tokens(missing, special_tokens=True)
    rows = language.get_input_embeddings().weight.shape[0]
    more = len(tokenizer) - rows
    if more <= 0:
        return 0
    means = [
        table.weight.float().mean(0)
        for table in (language.get_input_embeddings(), language.get_output_embeddings())
    ]
    language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for table, mean in zip(
        (language.get_input_embeddings(), language.get_output_embeddings()), means
    ):
        table.weight[rows:] = mean.to(table.weight)
    return more


def _plain_head(language: Any) -> list[str]:
    """Fold what can be folded of the family's own head into its weights; says what was done."""
    config = language.config
    head = backbones.head_of(config)
    notes = []
    if head.scale != 1.0:
        weight = language.lm_head.weight * head.scale
        language.lm_head = nn.Linear(weight.shape[1], weight.shape[0], bias=False).to(weight)
        language.lm_head.weight = nn.Parameter(weight)
        for field in ("logits_scaling", "logit_scale"):
            if getattr(config, field, None):
                setattr(config, field, 1.0)
        notes.append(f"logit scale {head.scale:g} folded into the head, which is untied from now")
        config.tie_word_embeddings = False
    if head.softcap is not None:
        notes.append(
            f"the logit cap of {head.softcap:g} acts in plugin calls only; the host's own head has "
            "none (the most likely words stay the same)"
        )
    return notes


def _new_projector(host: Any, seed: int) -> None:
    old = host.model.multi_modal_projector
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = type(old)(host.config).to(old.linear_1.weight)
        for layer in (new.linear_1, new.linear_2):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
    new.layer_norm.load_state_dict(old.layer_norm.state_dict())
    host.model.multi_modal_projector = new
