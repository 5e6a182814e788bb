"""SAM2 weights, Meta's or transformers', and the SAM2 inside SAMA and Sa2VA checkpoints.

All become one `segmenter.safetensors` with Meta's names, which both backends read. The sizes are
read off the shapes, so a file says itself which SAM2 it is. Used by `sama import`.
"""

from __future__ import annotations

from typing import Any, Mapping

import torch
import transformers

from sama_plugin.errors import CheckpointError
from sama_plugin.model.importers.rules import Rule, drop, prefixed, twice
from sama_plugin.segment.sam2_hf_config import build_hf_sam2
from sama_plugin.segment.sam2_names import to_meta
from sama_plugin.segment.sizes import SIZES, Sam2Sizes, build_sam2

Shape = tuple[int, ...]
_INSIDE = r"grounding_encoder\.sam2_model\."
_FUSER = r"memory_encoder\.fuser\.layers\.(\d+)\.g_weight"


def rules(inside: bool, decoder_copy: bool) -> tuple[Rule, ...]:
    """The table of a SAM2 with Meta's names.

    Args:
        inside: the SAM2 is part of a SAMA or Sa2VA checkpoint.
        decoder_copy: its mask decoder was trained, and also becomes the adapter's.
    """
    start = _INSIDE if inside else ""
    trained = Rule(
        rf"{start}sam_mask_decoder\.(.*)",
        (r"segmenter:sam_mask_decoder.\1", r"adapter:mask_decoder.\1"),
        twice,
    )
    return (
        Rule(start + _FUSER, (r"segmenter:memory_encoder.fuser.layers.\1.gamma",)),
        *([trained] if decoder_copy else []),
        drop(rf"{start}(.*\.)?(freqs_cis|position_ids)", "computed from the sizes"),
        Rule(rf"{start}(.*)", (r"segmenter:\1",)),
    )


def sizes_of(shapes: Mapping[str, Shape]) -> Sam2Sizes:
    """The sizes of a SAM2 with Meta's names; windows beyond the first are no part of any shape.

    Raises:
        CheckpointError: a tensor that every SAM2 has is missing.
    """
    trunk = "image_encoder.trunk"
    try:
        embed_dim, window = shapes[f"{trunk}.pos_embed_window"][1:3]
        numbers = {int(name.split(".")[3]) for name in shapes if name.startswith(f"{trunk}.blocks")}
        starts = [n for n in sorted(numbers) if f"{trunk}.blocks.{n}.proj.weight" in shapes]
        edges = [0, *starts, len(numbers)]
        frames, _, _, memory_width = shapes["maskmem_tpos_enc"]
        ffn, width = shapes["memory_attention.layers.0.linear1.weight"]
        layers = {name.split(".")[2] for name in shapes if name.startswith("memory_attention.la")}
        return Sam2Sizes(
            generation="2.1" if "no_obj_embed_spatial" in shapes else "2.0",
            image_size=64,
            embed_dim=embed_dim,
            stages=tuple(b - a for a, b in zip(edges, edges[1:])),
            windows=(window, *Sam2Sizes().windows[1:]),
            background=shapes[f"{trunk}.pos_embed"][2:],
            width=width,
            memory_width=memory_width,
            memory_layers=len(layers),
            memory_ffn=ffn,
            memory_frames=frames,
        )
    except KeyError as error:
        raise CheckpointError(
            f"this is not a whole SAM2: there is no {error.args[0]}; the image-only parts of a "
            "SAM2 cannot follow anything through a video"
        ) from error


def name_of(sizes: Sam2Sizes, source: Any) -> str:
    """The registry's name of a SAM2 of these sizes.

    Raises:
        CheckpointError: none has these; `source` is named.
    """
    for name, row in SIZES.items():
        same = (row.generation, row.embed_dim, tuple(row.stages), row.width)
        if same == (sizes.generation, sizes.embed_dim, tuple(sizes.stages), sizes.width):
            return name
    raise CheckpointError(
        f"{source} holds a SAM2 {sizes.generation} with embed_dim {sizes.embed_dim}, stages "
        f"{tuple(sizes.stages)} and width {sizes.width}, which no segmenter has; known: "
        f"{', '.join(SIZES)}"
    )


def expected(sizes: Sam2Sizes) -> dict[str, Shape]:
    """Names and shapes of a SAM2, as "segmenter:name": of transformers' classes, or of Meta's where
    transformers is older than 4.56.

    Raises:
        ConfigError: there is neither.
    """
    if not hasattr(transformers, "Sam2VideoModel"):
        return prefixed("segmenter", build_sam2(sizes).state_dict())
    with torch.device("meta"):
        return prefixed("segmenter", to_meta(build_hf_sam2(sizes).state_dict()))


def expected_copy(sizes: Sam2Sizes) -> dict[str, Shape]:
    """Names and shapes of the adapter's copy of the mask decoder."""
    start = "segmenter:sam_mask_decoder."
    return {
        "adapter:mask_decoder." + name[len(start) :]: shape
        for name, shape in expected(sizes).items()
        if name.startswith(start)
    }


def shapes_inside(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes of the SAM2 inside a SAMA or Sa2VA checkpoint, under Meta's names."""
    start = "grounding_encoder.sam2_model."
    return {name[len(start) :]: shape for name, shape in shapes.items() if name.startswith(start)}
