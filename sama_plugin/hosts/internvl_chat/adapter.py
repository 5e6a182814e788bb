"""Where `InternVLChatModel` is held, in the upstream trees and as remote code.

`language_model` is a whole causal language model, perhaps inside a PeftModel; `extract_feature`
gives one row a frame. The class's forward always encodes pixels and fills placeholders by
`image_flags`, one flag a row, so the tap hands on the kept rows and the flags are as many. It cuts
or zeroes its loss when counts differ; they are therefore counted here first. Generation goes past
that forward: the language model is called with embeddings, the frames come from the cache.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Mapping, Optional, Sequence

import torch
from torch import Tensor

from sama_plugin.errors import HostError, SlotError
from sama_plugin.hosts.base import Head, VisualRows
from sama_plugin.hosts.internvl.preprocess import pixels as square_pixels
from sama_plugin.hosts.internvl.prompt import IMAGE_TOKEN, TRAINERS, visual_prefix
from sama_plugin.hosts.internvl_chat import lora
from sama_plugin.hosts.internvl_chat.pairs import extend, pairs_of
from sama_plugin.hosts.internvl_chat.template import chat_template
from sama_plugin.hosts.native import NativeHost

PAIRED = ("internlm2",)
"""Families whose own code takes and gives caches as tuples."""
READS, NOTHING = "_sama_reads", -1
"""Attribute of a batch's pixels: how many frames its placeholders read; NOTHING where the pixels
stand in because the forward wants some."""


class InternVLChatAdapter(NativeHost):
    """`HostAdapter` for `InternVLChatModel`; stateless."""

    name = "internvl_chat"

    def detect(self, model: Any) -> bool:
        kind = getattr(getattr(model, "config", None), "model_type", None)
        parts = ("extract_feature", "mlp1", "language_model")
        return kind == "internvl_chat" and all(hasattr(model, part) for part in parts)

    def chat_tokenizer(self, model: Any, tokenizer: Any) -> Any:
        """Also tells the model its image placeholder, as its own `chat` does."""
        model.img_context_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        if not hasattr(model, "conv_template"):
            return tokenizer
        tokenizer.chat_template = chat_template(
            model.conv_template, getattr(model, "system_message", None)
        )
        return tokenizer

    def decoder(self, model: Any) -> Any:
        language = bare(model.language_model)
        found = language.get_decoder() if hasattr(language, "get_decoder") else None
        return language.model if found is None else found

    def input_embeddings(self, model: Any) -> Any:
        return bare(model.language_model).get_input_embeddings()

    def output_embeddings(self, model: Any) -> Any:
        return bare(model.language_model).get_output_embeddings()

    def tap_visual(self, model: Any, seen: Callable[[VisualRows], Optional[VisualRows]]) -> Any:
        return FeatureTap(model, row_major(model), seen)

    def encode_frames(self, model: Any, pixels: Tensor) -> VisualRows:
        found = model.extract_feature(pixels.to(next(model.vision_model.parameters()).dtype))
        return VisualRows(found[:, row_major(model)])

    def forward_inputs(self, model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if model.img_context_token_id is None:
            raise HostError(
                "the host does not know its image placeholder; set model.img_context_token_id = "
                "tokenizer.convert_tokens_to_ids('<IMG_CONTEXT>')"
            )
        ids, pixels = inputs["input_ids"], inputs.get("pixel_values")
        placeholders = int((ids == model.img_context_token_id).sum())
        frames, left = divmod(placeholders, model.num_image_token)
        if left:
            raise SlotError(
                f"{placeholders} image placeholders in the batch are not whole frames of "
                f"{model.num_image_token}; a sequence was cut after it was encoded"
            )
        flags = torch.ones(frames, dtype=torch.long, device=ids.device)
        reads = frames
        if pixels is None:
            side, reads, flags = self.image_size(model), NOTHING, flags.new_zeros(1)
            pixels = torch.zeros(1, 3, side, side, device=ids.device)
        pixels = pixels.to(next(model.vision_model.parameters()).dtype)
        setattr(pixels, READS, reads)
        return {**inputs, "pixel_values": pixels, "image_flags": flags}

    def read(self, model: Any, inputs: Mapping[str, Any], **options: Any) -> Any:
        """The language model alone, on embeddings; the taps write what is cached."""
        inputs = dict(inputs)
        language = bare(model.language_model)
        embeds = self.input_embeddings(model)(inputs.pop("input_ids"))
        keep = options.pop("logits_to_keep", None)
        known = inspect.signature(language.forward).parameters
        name = next((n for n in ("logits_to_keep", "num_logits_to_keep") if n in known), None)
        if keep is not None and name is not None:
            options[name] = keep
        cache = inputs.get("past_key_values")
        if cache is None or self.family(model) not in PAIRED:
            return language(inputs_embeds=embeds, return_dict=True, **inputs, **options)
        inputs["past_key_values"] = pairs_of(cache)
        output = language(inputs_embeds=embeds, return_dict=True, **inputs, **options)
        extend(cache, output.past_key_values)
        return output

    def language_rows(self, model: Any, features: Tensor) -> Tensor:
        return features[:, row_major(model).argsort().to(features.device)].flatten(0, 1)

    def width(self, model: Any) -> int:
        return self._text(model).hidden_size

    def grid(self, model: Any) -> tuple[int, int]:
        cells = self.image_size(model) // model.config.vision_config.patch_size
        side = int(cells * model.config.downsample_ratio)
        return side, side

    def image_size(self, model: Any) -> int:
        return model.config.force_image_size or model.config.vision_config.image_size

    def family(self, model: Any) -> str:
        return self._text(model).model_type

    def head(self, model: Any) -> Head:
        return Head()

    def router_loss(self, model: Any, router: Any, attention_mask: Any) -> Optional[Tensor]:
        """None: the class adds it itself where its language model reports router logits."""
        return None

    def vocabulary_fields(self, model: Any) -> Sequence[tuple[Any, str]]:
        return ((self._text(model), "vocab_size"),)

    def image_token(self) -> str:
        return IMAGE_TOKEN

    def visual_prefix(self, frames: int, tokens: int, video: bool) -> str:
        return visual_prefix(frames, tokens, video, TRAINERS)

    def pixels(self, frames: Any, model: Any) -> Any:
        return square_pixels(frames, self.image_size(model))

    def lora_names(self, model: Any) -> dict[str, str]:
        return dict(lora.names(self.family(model)))

    def lora_pattern(self, model: Any, targets: Sequence[str]) -> str:
        return lora.pattern(self.family(model), targets)

    def lora_expected(self, model: Any, targets: Sequence[str]) -> int:
        return len(lora.layers(self.family(model), targets)) * self._text(model).num_hidden_layers

    def fused_rows(self, model: Any, targets: Sequence[str]) -> Mapping[str, Any]:
        return lora.fused_rows(self.family(model), self._text(model), targets)

    def _text(self, model: Any) -> Any:
        return bare(model.language_model).config


class FeatureTap:
    """Stands before a model's `extract_feature` until `remove`; other instances are untouched."""

    def __init__(
        self, model: Any, order: Tensor, seen: Callable[[VisualRows], Optional[VisualRows]]
    ):
        self.model, self.before = model, vars(model).get("extract_feature")
        extract, back = model.extract_feature, order.argsort()

        def extract_feature(pixel_values: Tensor) -> Tensor:
            found, reads = extract(pixel_values), getattr(pixel_values, READS, None)
            if reads == NOTHING:
                return found
            kept = seen(VisualRows(found[:, order.to(found.device)]))
            if kept is None:
                return found
            if reads is not None and len(kept.features) != reads:
                raise SlotError(
                    f"the placeholders of the batch read {reads} frames, its frame plans keep "
                    f"{len(kept.features)}; text and frames must come from one collator"
                )
            return kept.features[:, back.to(found.device)]

        model.extract_feature = extract_feature

    def remove(self) -> None:
        """Give the instance its class's method back."""
        if self.before is None:
            del self.model.extract_feature
        else:
            self.model.extract_feature = self.before


def bare(language_model: Any) -> Any:
    """The causal language model inside a PeftModel, or itself."""
    get = getattr(language_model, "get_base_model", None)
    return language_model if get is None else get()


def row_major(model: Any) -> Tensor:
    """(N,) places of the cells, row by row, in the host's order: pixel shuffle "v1" transposes."""
    side = InternVLChatAdapter().grid(model)[0]
    cells = torch.arange(side * side).view(side, side)
    return (cells.T if model.config.ps_version == "v1" else cells).reshape(-1)
