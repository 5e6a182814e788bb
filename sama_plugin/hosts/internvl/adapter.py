"""Where native InternVL is held.

`model.model.language_model` is the decoder (without head), `model.lm_head` the head,
`model.model.multi_modal_projector` the last visual module: one output row a frame, after pixel
shuffle, so row-major h x w cells. Nothing behind it counts rows, so frames are selected there.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from torch import Tensor

from sama_plugin.hosts.base import VisualRows
from sama_plugin.hosts.internvl import preprocess, prompt
from sama_plugin.hosts.native import NativeHost, pooled, stacked


class InternVLAdapter(NativeHost):
    """`HostAdapter` for `InternVLForConditionalGeneration`; stateless."""

    name = model_type = "internvl"
    held_at = "multi_modal_projector"

    def tap_visual(self, model: Any, seen: Callable[[VisualRows], Optional[VisualRows]]) -> Any:
        def hook(module: Any, args: tuple, output: Tensor) -> Optional[Tensor]:
            kept = seen(VisualRows(output))
            return None if kept is None else kept.features

        return model.model.multi_modal_projector.register_forward_hook(hook)

    def encode_frames(self, model: Any, pixels: Tensor) -> VisualRows:
        return VisualRows(stacked(pooled(model.get_image_features(pixel_values=pixels))))

    def grid(self, model: Any) -> tuple[int, int]:
        height, width = _pair(model.config.vision_config.image_size)
        patch_height, patch_width = _pair(model.config.vision_config.patch_size)
        ratio = model.config.downsample_ratio
        return int(height // patch_height * ratio), int(width // patch_width * ratio)

    def image_size(self, model: Any) -> int:
        return _pair(model.config.vision_config.image_size)[0]

    def image_token(self) -> str:
        return prompt.IMAGE_TOKEN

    def visual_prefix(self, frames: int, tokens: int, video: bool) -> str:
        return prompt.visual_prefix(frames, tokens, video)

    def pixels(self, frames: Any, model: Any) -> Any:
        return preprocess.pixels(frames, self.image_size(model))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
