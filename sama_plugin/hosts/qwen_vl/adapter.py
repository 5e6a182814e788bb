"""Where Qwen2.5-VL and Qwen3-VL are held: at `get_image_features`, which splits rows by grid_thw.

Frames are separate images, so a frame keeps its own tokens (Qwen's video path merges two frames
into one) and regions can point at any of them. Positions are computed here and handed to the host,
because its own need the grids of all images in the text, of which a later turn has none. Qwen3-VL's
deepstack features are cut to the same frames, and come from the cache where the tokens do; region
and context tokens get none of them.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Optional, Sequence

import torch
from torch import Tensor

from sama_plugin.errors import HostError
from sama_plugin.hosts.base import VisualRows
from sama_plugin.hosts.native import MethodTap, NativeHost, pooled, stacked, with_pooled
from sama_plugin.hosts.qwen_vl.patches import to_patches
from sama_plugin.hosts.qwen_vl.positions import read_positions
from sama_plugin.hosts.squares import CLIP, HALVES, square_pixels

CELLS = 16
"""Visual tokens along a side of a frame, when no frame side is asked for: 256 a frame."""


class Qwen25VLAdapter(NativeHost):
    """`HostAdapter` for `Qwen2_5_VLForConditionalGeneration`."""

    name = model_type = "qwen2_5_vl"
    held_at = "get_image_features"
    language = "qwen2"
    statistics = CLIP

    def __init__(self) -> None:
        self.side: Optional[int] = None

    def use_frame_side(self, model: Any, side: int) -> None:
        """Read frames of another side; a multiple of what one token covers."""
        cell = self._cell(model)
        if side < cell or side % cell:
            raise HostError(
                f"frame_side {side}: a token of {type(model).__name__} covers {cell} pixels; use a "
                f"multiple of it, such as {max(side // cell, 1) * cell}"
            )
        self.side = side

    def tap_visual(self, model: Any, seen: Callable[[VisualRows], Optional[VisualRows]]) -> Any:
        def change(output: Any) -> Any:
            kept = seen(self._rows(model, output))
            return output if kept is None else self._handed_on(output, kept)

        return MethodTap(model.model, self.held_at, change)

    def encode_frames(self, model: Any, pixels: Tensor) -> VisualRows:
        rows, grid = to_patches(pixels, model.config.vision_config)
        return self._rows(model, model.model.get_image_features(rows, grid))

    def forward_inputs(self, model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        inputs = dict(inputs)
        if inputs.get("pixel_values") is not None:
            inputs["pixel_values"], inputs["image_grid_thw"] = to_patches(
                inputs["pixel_values"], model.config.vision_config
            )
        if inputs.get("position_ids") is None:
            inputs["position_ids"] = read_positions(
                inputs["input_ids"],
                model.config.image_token_id,
                self.grid(model),
                inputs.get("past_key_values"),
            )
        return inputs

    def new_cache(self, model: Any) -> Any:
        cache = super().new_cache(model)
        cache.rope_offset = 0
        return cache

    def family(self, model: Any) -> str:
        return self.language

    def vocabulary_fields(self, model: Any) -> Sequence[tuple[Any, str]]:
        """Also the size beside the language model's, which the loss of 4.55 reads."""
        outer = ((model.config, "vocab_size"),) if "vocab_size" in vars(model.config) else ()
        return (*super().vocabulary_fields(model), *outer)

    def grid(self, model: Any) -> tuple[int, int]:
        cells = self.image_size(model) // self._cell(model)
        return cells, cells

    def image_size(self, model: Any) -> int:
        return self.side or CELLS * self._cell(model)

    def image_token(self) -> str:
        return "<|image_pad|>"

    def visual_prefix(self, frames: int, tokens: int, video: bool) -> str:
        return f"<|vision_start|>{self.image_token() * tokens}<|vision_end|>" * frames

    def pixels(self, frames: Any, model: Any) -> Any:
        return square_pixels(frames, self.image_size(model), self.statistics)

    def _cell(self, model: Any) -> int:
        """Pixels a token covers along a side."""
        vision = model.config.vision_config
        return vision.patch_size * vision.spatial_merge_size

    def _rows(self, model: Any, output: Any) -> VisualRows:
        return VisualRows(stacked(pooled(output)))

    def _handed_on(self, output: Any, kept: VisualRows) -> Any:
        return with_pooled(output, (kept.features.flatten(0, 1),))


class Qwen3VLAdapter(Qwen25VLAdapter):
    """`HostAdapter` for `Qwen3VLForConditionalGeneration`: deepstack besides."""

    name = model_type = "qwen3_vl"
    language = "qwen3"
    statistics = HALVES

    def with_deep(self, inputs: dict[str, Any], slots: Tensor, rows: VisualRows) -> dict[str, Any]:
        if rows.features.shape[0] == 0:
            return inputs
        deep = [level.flatten(0, 1) for level in rows.deep.unbind(1)]  # D of (K * N, C)
        return {**inputs, "visual_pos_masks": slots, "deepstack_visual_embeds": deep}

    def _rows(self, model: Any, output: Any) -> VisualRows:
        if isinstance(output, tuple):  # transformers 4
            features, deep = output
        else:
            features, deep = output.pooler_output, output.deepstack_features
        features = stacked(features)  # (F, N, C)
        levels = [
            (level if isinstance(level, Tensor) else torch.cat(list(level))).reshape(features.shape)
            for level in deep
        ]
        return VisualRows(features, torch.stack(levels, dim=1))

    def _handed_on(self, output: Any, kept: VisualRows) -> Any:
        features = (kept.features.flatten(0, 1),)
        deep = [level.flatten(0, 1) for level in kept.deep.unbind(1)]
        if isinstance(output, tuple):  # transformers 4
            return features, deep
        output.pooler_output, output.deepstack_features = features, [(level,) for level in deep]
        return output
