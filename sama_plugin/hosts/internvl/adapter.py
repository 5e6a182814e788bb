"""Where native InternVL is held.

`model.model.language_model` is the decoder (without head), `model.lm_head` the head,
`model.model.multi_modal_projector`
the last visual module: one output row a frame, after pixel shuffle, so row-major h x w cells.
"""

from __future__ import annotations

from typing import Any, Sequence

from sama_plugin.hosts.internvl import lora, preprocess, prompt


class InternVLAdapter:
    """`HostAdapter` for `InternVLForConditionalGeneration`; stateless."""

    name = "internvl"

    def detect(self, model: Any) -> bool:
        return getattr(
            getattr(model, "config", None), "model_type", None
        ) == "internvl" and hasattr(getattr(model, "model", None), "multi_modal_projector")

    def decoder(self, model: Any) -> Any:
        return model.model.language_model

    def input_embeddings(self, model: Any) -> Any:
        return model.get_input_embeddings()

    def output_embeddings(self, model: Any) -> Any:
        return model.get_output_embeddings()

    def visual_module(self, model: Any) -> Any:
        return model.model.multi_modal_projector

    def visual_features(self, output: Any) -> Any:
        return output

    def with_visual_features(self, output: Any, features: Any) -> Any:
        return features

    def width(self, model: Any) -> int:
        return model.config.text_config.hidden_size

    def grid(self, model: Any) -> tuple[int, int]:
        height, width = _pair(model.config.vision_config.image_size)
        patch_height, patch_width = _pair(model.config.vision_config.patch_size)
        ratio = model.config.downsample_ratio
        return int(height // patch_height * ratio), int(width // patch_width * ratio)

    def image_size(self, model: Any) -> int:
        return _pair(model.config.vision_config.image_size)[0]

    def family(self, model: Any) -> str:
        return model.config.text_config.model_type

    def vocabulary_fields(self, model: Any) -> Sequence[tuple[Any, str]]:
        return ((model.config.text_config, "vocab_size"),)

    def image_token(self) -> str:
        return prompt.IMAGE_TOKEN

    def visual_prefix(self, frames: int, tokens: int, video: bool) -> str:
        return prompt.visual_prefix(frames, tokens, video)

    def pixels(self, frames: Any, model: Any) -> Any:
        return preprocess.pixels(frames, self.image_size(model))

    def lora_names(self, model: Any) -> dict[str, str]:
        return lora.layer_names(self.family(model))

    def lora_pattern(self, model: Any, targets: Sequence[str]) -> str:
        return lora.pattern(self.family(model), targets)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
