"""What transformers' own vision-language hosts have in common.

Since 4.52 they are one shape: `model.model` holds the vision side and `language_model` (a decoder
without head), `model.lm_head` is a plain linear head. Adapters inherit from `NativeHost` and say
only what is different. Frames are one square picture each, so a host's own forward needs nothing
but pixels unless an adapter says otherwise.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Mapping, Optional, Sequence

import torch
from torch import Tensor, nn

from sama_plugin.errors import HostError
from sama_plugin.hosts import backbones
from sama_plugin.hosts.base import Head, VisualRows


class NativeHost:
    """Defaults of `HostAdapter` for transformers' vision-language classes.

    A subclass has `name`, `model_type` (of the configuration) and `held_at` (a name in the inner
    model, without which the class is of another version), `tap_visual` (from `MethodTap` or a
    module hook), `encode_frames`, the grid, the wording and the pixels.
    """

    name = model_type = held_at = ""

    def detect(self, model: Any) -> bool:
        kind = getattr(getattr(model, "config", None), "model_type", None)
        return kind == self.model_type and hasattr(getattr(model, "model", None), self.held_at)

    def use_frame_side(self, model: Any, side: int) -> None:
        """Refuse another side than the host's own; hosts that read any size override this."""
        if side != self.image_size(model):
            raise HostError(
                f"frame_side {side}: {type(model).__name__} reads frames of "
                f"{self.image_size(model)} pixels; leave frame_side out"
            )

    def decoder(self, model: Any) -> Any:
        return model.model.language_model

    def input_embeddings(self, model: Any) -> Any:
        return model.get_input_embeddings()

    def output_embeddings(self, model: Any) -> Any:
        return model.get_output_embeddings()

    def chat_tokenizer(self, model: Any, tokenizer: Any) -> Any:
        return tokenizer

    def forward_inputs(self, model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return dict(inputs)

    def read(self, model: Any, inputs: Mapping[str, Any], **options: Any) -> Any:
        return model(**self.forward_inputs(model, inputs), **options)

    def new_cache(self, model: Any) -> Any:
        from transformers import DynamicCache

        return DynamicCache()

    def language_rows(self, model: Any, features: Tensor) -> Tensor:
        return features.flatten(0, 1)

    def with_deep(self, inputs: dict[str, Any], slots: Tensor, rows: VisualRows) -> dict[str, Any]:
        return inputs

    def width(self, model: Any) -> int:
        return model.config.text_config.hidden_size

    def family(self, model: Any) -> str:
        return model.config.text_config.model_type

    def head(self, model: Any) -> Head:
        return backbones.head_of(model.config.text_config)

    def router_loss(self, model: Any, router: Any, attention_mask: Any) -> Optional[Tensor]:
        return backbones.router_loss(model.config.text_config, router, attention_mask)

    def vocabulary_fields(self, model: Any) -> Sequence[tuple[Any, str]]:
        return ((model.config.text_config, "vocab_size"),)

    def placeholders(self, tokens: int) -> int:
        return tokens

    def lora_names(self, model: Any) -> dict[str, str]:
        return dict(backbones.backbone(self.family(model)).layers)

    def lora_pattern(self, model: Any, targets: Sequence[str]) -> str:
        return backbones.pattern(self.family(model), targets)

    def lora_expected(self, model: Any, targets: Sequence[str]) -> int:
        layers = backbones.layers_of(self.family(model), targets)
        return len(layers) * model.config.text_config.num_hidden_layers

    def fused_rows(self, model: Any, targets: Sequence[str]) -> dict[str, slice]:
        return backbones.fused_rows(model.config.text_config, targets)


class MethodTap:
    """Holds a host at a method of its inner model that encodes frames, until `remove`.

    Hosts that count rows after their projector (splitting by image, adding separators) must be
    held behind that. The method is replaced on the instance only, and keeps its signature, which
    `generate` reads.

    Args:
        owner: the module whose method it is. name: the method.
        change: the method's output to what is handed on.
    """

    def __init__(self, owner: nn.Module, name: str, change: Callable[[Any], Any]):
        self.owner, self.name = owner, name
        self.before = owner.__dict__.get(name)
        method = getattr(owner, name)

        @functools.wraps(method)
        def tapped(*args: Any, **kwargs: Any) -> Any:
            return change(method(*args, **kwargs))

        setattr(owner, name, tapped)

    def remove(self) -> None:
        """Give the instance its own method back."""
        if self.before is None:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.before)


def pooled(output: Any) -> Any:
    """The visual tokens in what `get_*_features` returned: transformers 5 wraps them in an output
    object, 4 returns them.
    """
    return getattr(output, "pooler_output", output)


def with_pooled(output: Any, value: Any) -> Any:
    """`output` with other visual tokens."""
    if hasattr(output, "pooler_output"):
        output.pooler_output = value
        return output
    return value


def stacked(value: Any) -> Tensor:
    """(F, N, C) from one tensor or one a frame."""
    return value if isinstance(value, Tensor) else torch.stack(list(value))
