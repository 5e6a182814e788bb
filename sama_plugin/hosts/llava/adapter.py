"""Where the LLaVA family is held: at the method that encodes frames, behind the last row counting.

| host | frames go in as | tokens a frame | behind each frame |
|---|---|---|---|
| Llava | images | patches | nothing |
| LlavaNextVideo | one video | patches, pooled by the host | nothing |
| LlavaOnevision | videos of one frame | patches, halved by the host | its newline vector |

Tiling ("anyres") is not used: it makes a grid of another shape for every picture. Onevision closes
a video, or each of several images, with one newline vector; here each frame is closed, so that any
number of frames of any number of samples can be laid end to end.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Optional

import torch
from torch import Tensor

from sama_plugin.errors import HostError
from sama_plugin.hosts.base import VisualRows
from sama_plugin.hosts.native import MethodTap, NativeHost, pooled, stacked, with_pooled
from sama_plugin.hosts.squares import CLIP, HALVES, square_pixels


class LlavaAdapter(NativeHost):
    """`HostAdapter` for `LlavaForConditionalGeneration`: frames are its images."""

    name = model_type = "llava"
    held_at = "get_image_features"

    def tap_visual(self, model: Any, seen: Callable[[VisualRows], Optional[VisualRows]]) -> Any:
        def change(output: Any) -> Any:
            kept = seen(VisualRows(self._features(model, pooled(output))))
            if kept is None:
                return output
            return with_pooled(output, self._handed_on(model, pooled(output), kept.features))

        return MethodTap(model.model, self.held_at, change)

    def encode_frames(self, model: Any, pixels: Tensor) -> VisualRows:
        config = model.config
        output = getattr(model.model, self.held_at)(
            self._frames(pixels),
            vision_feature_layer=config.vision_feature_layer,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
        )
        return VisualRows(self._features(model, pooled(output)))

    def grid(self, model: Any) -> tuple[int, int]:
        side = self._patches(model)
        return side, side

    def image_size(self, model: Any) -> int:
        return model.config.vision_config.image_size

    def image_token(self) -> str:
        return "<image>"

    def visual_prefix(self, frames: int, tokens: int, video: bool) -> str:
        return f"{self.image_token() * tokens}\n" * frames

    def pixels(self, frames: Any, model: Any) -> Any:
        siglip = model.config.vision_config.model_type.startswith("siglip")
        return square_pixels(frames, self.image_size(model), HALVES if siglip else CLIP)

    def _patches(self, model: Any) -> int:
        """Patches along a side; a class token among them would have no place on a grid."""
        config = model.config
        vision = config.vision_config
        kept = config.vision_feature_select_strategy == "full"
        if kept and vision.model_type.startswith("clip"):
            raise HostError(
                f"{type(model).__name__} keeps the class token among its visual tokens "
                "(vision_feature_select_strategy 'full' on a CLIP tower), so they are no grid; set "
                "it to 'default'"
            )
        return vision.image_size // vision.patch_size

    def _frames(self, pixels: Tensor) -> Tensor:
        """(F, 3, S, S) as the host's encoder takes them."""
        return pixels

    def _features(self, model: Any, value: Any) -> Tensor:
        """What the host's encoder returned, as (F, N, C)."""
        return stacked(value)

    def _handed_on(self, model: Any, value: Any, features: Tensor) -> Any:
        """(K, N, C) as the encoder would have returned them; `value` is what it did return."""
        return (features.flatten(0, 1),)


class _VideoAdapter(LlavaAdapter):
    """Frames go through the host's video input, stills too."""

    held_at = "get_video_features"

    def forward_inputs(self, model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        inputs = dict(inputs)
        pixels = inputs.pop("pixel_values", None)
        if pixels is not None:
            inputs["pixel_values_videos"] = self._frames(pixels)
        return inputs

    def image_token(self) -> str:
        return "<video>"

    def visual_prefix(self, frames: int, tokens: int, video: bool) -> str:
        run = self.image_token() * (frames * self.placeholders(tokens))
        return f"{run}\n" if frames else ""


class LlavaNextVideoAdapter(_VideoAdapter):
    """`HostAdapter` for `LlavaNextVideoForConditionalGeneration`: all frames are one video."""

    name = model_type = "llava_next_video"

    def grid(self, model: Any) -> tuple[int, int]:
        side = self._patches(model) // model.config.spatial_pool_stride
        return side, side

    def _frames(self, pixels: Tensor) -> Tensor:
        return pixels[None]  # (1, F, 3, S, S)

    def _features(self, model: Any, value: Any) -> Tensor:
        rows, columns = self.grid(model)
        return torch.cat(list(value)).reshape(-1, rows * columns, self.width(model))

    def _handed_on(self, model: Any, value: Any, features: Tensor) -> Any:
        return (features,)


class LlavaOnevisionAdapter(_VideoAdapter):
    """`HostAdapter` for `LlavaOnevisionForConditionalGeneration`: each frame is a video."""

    name = model_type = "llava_onevision"

    def grid(self, model: Any) -> tuple[int, int]:
        side = -(-self._patches(model) // 2)
        return side, side

    def placeholders(self, tokens: int) -> int:
        return tokens + 1

    def language_rows(self, model: Any, features: Tensor) -> Tensor:
        return _closed(model, features).flatten(0, 1)

    def _frames(self, pixels: Tensor) -> Tensor:
        return pixels[:, None]  # (F, 1, 3, S, S)

    def _features(self, model: Any, value: Any) -> Tensor:
        rows, columns = self.grid(model)
        return value[:, : rows * columns]  # transformers 5 has closed each frame already

    def _handed_on(self, model: Any, value: Any, features: Tensor) -> Any:
        rows, columns = self.grid(model)
        return _closed(model, features) if value.shape[1] > rows * columns else features


def _closed(model: Any, features: Tensor) -> Tensor:
    """(K, N, C) frames with the host's newline vector behind each, (K, N + 1, C)."""
    newline = model.model.image_newline.to(features).expand(features.shape[0], 1, -1)
    return torch.cat([features, newline], dim=1)
