"""One table of names between the two families of SAM2 weights, read in both directions.

Meta's checkpoints (`sam2` package) and transformers' `Sam2VideoModel` hold the same tensors under
other names. A row pairs the two; a placeholder stands for the same text on both sides. Two things
are no renaming: transformers stacks the four point embeddings into one tensor, and keeps the random
frequencies of positions twice. Every key has to be accounted for, or the conversion fails. Used by
both backends (`sam2.py`, `sam2_hf.py`) and by the importers.
"""

from __future__ import annotations

import re
from typing import Mapping, Optional

import torch
from torch import Tensor

from sama_plugin.errors import CheckpointError

_PLACEHOLDERS = {
    "i": r"\d+",
    "k": r"\d+",
    "p": r"weight|bias",
    "a": r"self_attn|cross_attn_image|cross_attn_token_to_image|cross_attn_image_to_token",
    "x": r"q|k|v",
    "s": r"s0|s1",
    "q": r"qkv|proj",
}

_TRUNK, _BACKBONE = "image_encoder.trunk", "vision_encoder.backbone"
_DECODER, _HF_DECODER = "sam_mask_decoder", "mask_decoder"
_DOWN, _HF_DOWN = "memory_encoder.mask_downsampler", "memory_encoder.mask_downsampler"
_FUSER, _HF_FUSER = "memory_encoder.fuser.layers.{i}", "memory_encoder.memory_fuser.layers.{i}"
_MEMORY = "memory_attention.layers.{i}"
_WAY = "transformer.layers.{i}"


def _perceptron(meta: str, hf: str, layers: int) -> tuple[tuple[str, str], ...]:
    """Rows of a perceptron: transformers gives its first and last layers names of their own."""
    inner = [(f"layers.{n}", f"layers.{n - 1}") for n in range(1, layers - 1)]
    pairs = [("layers.0", "proj_in"), *inner, (f"layers.{layers - 1}", "proj_out")]
    return tuple((f"{meta}.{a}.{{p}}", f"{hf}.{b}.{{p}}") for a, b in pairs)


TABLE: tuple[tuple[str, str], ...] = (
    ("maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    ("no_mem_embed", "no_memory_embedding"),
    ("no_mem_pos_enc", "no_memory_positional_encoding"),
    ("no_obj_ptr", "no_object_pointer"),
    ("no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
    ("mask_downsample.{p}", "mask_downsample.{p}"),
    ("obj_ptr_tpos_proj.{p}", "temporal_positional_encoding_projection_layer.{p}"),
    *_perceptron("obj_ptr_proj", "object_pointer_proj", 3),
    (f"{_TRUNK}.pos_embed", f"{_BACKBONE}.pos_embed"),
    (f"{_TRUNK}.pos_embed_window", f"{_BACKBONE}.pos_embed_window"),
    (f"{_TRUNK}.patch_embed.proj.{{p}}", f"{_BACKBONE}.patch_embed.projection.{{p}}"),
    (f"{_TRUNK}.blocks.{{i}}.norm{{k}}.{{p}}", f"{_BACKBONE}.blocks.{{i}}.layer_norm{{k}}.{{p}}"),
    (f"{_TRUNK}.blocks.{{i}}.attn.{{q}}.{{p}}", f"{_BACKBONE}.blocks.{{i}}.attn.{{q}}.{{p}}"),
    (f"{_TRUNK}.blocks.{{i}}.proj.{{p}}", f"{_BACKBONE}.blocks.{{i}}.proj.{{p}}"),
    *_perceptron(f"{_TRUNK}.blocks.{{i}}.mlp", f"{_BACKBONE}.blocks.{{i}}.mlp", 2),
    ("image_encoder.neck.convs.{i}.conv.{p}", "vision_encoder.neck.convs.{i}.{p}"),
    ("sam_prompt_encoder.not_a_point_embed.weight", "prompt_encoder.not_a_point_embed.weight"),
    ("sam_prompt_encoder.no_mask_embed.weight", "prompt_encoder.no_mask_embed.weight"),
    ("sam_prompt_encoder.mask_downscaling.0.{p}", "prompt_encoder.mask_embed.conv1.{p}"),
    ("sam_prompt_encoder.mask_downscaling.1.{p}", "prompt_encoder.mask_embed.layer_norm1.{p}"),
    ("sam_prompt_encoder.mask_downscaling.3.{p}", "prompt_encoder.mask_embed.conv2.{p}"),
    ("sam_prompt_encoder.mask_downscaling.4.{p}", "prompt_encoder.mask_embed.layer_norm2.{p}"),
    ("sam_prompt_encoder.mask_downscaling.6.{p}", "prompt_encoder.mask_embed.conv3.{p}"),
    (f"{_DECODER}.iou_token.weight", f"{_HF_DECODER}.iou_token.weight"),
    (f"{_DECODER}.mask_tokens.weight", f"{_HF_DECODER}.mask_tokens.weight"),
    (f"{_DECODER}.obj_score_token.weight", f"{_HF_DECODER}.obj_score_token.weight"),
    (f"{_DECODER}.conv_{{s}}.{{p}}", f"{_HF_DECODER}.conv_{{s}}.{{p}}"),
    (f"{_DECODER}.output_upscaling.0.{{p}}", f"{_HF_DECODER}.upscale_conv1.{{p}}"),
    (f"{_DECODER}.output_upscaling.1.{{p}}", f"{_HF_DECODER}.upscale_layer_norm.{{p}}"),
    (f"{_DECODER}.output_upscaling.3.{{p}}", f"{_HF_DECODER}.upscale_conv2.{{p}}"),
    *_perceptron(f"{_DECODER}.iou_prediction_head", f"{_HF_DECODER}.iou_prediction_head", 3),
    *_perceptron(f"{_DECODER}.pred_obj_score_head", f"{_HF_DECODER}.pred_obj_score_head", 3),
    *_perceptron(
        f"{_DECODER}.output_hypernetworks_mlps.{{i}}",
        f"{_HF_DECODER}.output_hypernetworks_mlps.{{i}}",
        3,
    ),
    (f"{_DECODER}.{_WAY}.{{a}}.{{x}}_proj.{{p}}", f"{_HF_DECODER}.{_WAY}.{{a}}.{{x}}_proj.{{p}}"),
    (f"{_DECODER}.{_WAY}.{{a}}.out_proj.{{p}}", f"{_HF_DECODER}.{_WAY}.{{a}}.o_proj.{{p}}"),
    (f"{_DECODER}.{_WAY}.norm{{k}}.{{p}}", f"{_HF_DECODER}.{_WAY}.layer_norm{{k}}.{{p}}"),
    *_perceptron(f"{_DECODER}.{_WAY}.mlp", f"{_HF_DECODER}.{_WAY}.mlp", 2),
    (
        f"{_DECODER}.transformer.final_attn_token_to_image.{{x}}_proj.{{p}}",
        f"{_HF_DECODER}.transformer.final_attn_token_to_image.{{x}}_proj.{{p}}",
    ),
    (
        f"{_DECODER}.transformer.final_attn_token_to_image.out_proj.{{p}}",
        f"{_HF_DECODER}.transformer.final_attn_token_to_image.o_proj.{{p}}",
    ),
    (
        f"{_DECODER}.transformer.norm_final_attn.{{p}}",
        f"{_HF_DECODER}.transformer.layer_norm_final_attn.{{p}}",
    ),
    (f"{_MEMORY}.{{a}}.{{x}}_proj.{{p}}", f"{_MEMORY}.{{a}}.{{x}}_proj.{{p}}"),
    (f"{_MEMORY}.{{a}}.out_proj.{{p}}", f"{_MEMORY}.{{a}}.o_proj.{{p}}"),
    (f"{_MEMORY}.linear{{k}}.{{p}}", f"{_MEMORY}.linear{{k}}.{{p}}"),
    (f"{_MEMORY}.norm{{k}}.{{p}}", f"{_MEMORY}.layer_norm{{k}}.{{p}}"),
    ("memory_attention.norm.{p}", "memory_attention.layer_norm.{p}"),
    *(
        (f"{_DOWN}.encoder.{3 * n + m}.{{p}}", f"{_HF_DOWN}.layers.{n}.{kind}.{{p}}")
        for n in range(4)
        for m, kind in enumerate(("conv", "layer_norm"))
    ),
    (f"{_DOWN}.encoder.12.{{p}}", f"{_HF_DOWN}.final_conv.{{p}}"),
    ("memory_encoder.pix_feat_proj.{p}", "memory_encoder.feature_projection.{p}"),
    ("memory_encoder.out_proj.{p}", "memory_encoder.projection.{p}"),
    (f"{_FUSER}.gamma", f"{_HF_FUSER}.scale"),
    (f"{_FUSER}.dwconv.{{p}}", f"{_HF_FUSER}.depthwise_conv.{{p}}"),
    (f"{_FUSER}.norm.{{p}}", f"{_HF_FUSER}.layer_norm.{{p}}"),
    (f"{_FUSER}.pwconv{{k}}.{{p}}", f"{_HF_FUSER}.pointwise_conv{{k}}.{{p}}"),
)

_META_POINTS = tuple(f"sam_prompt_encoder.point_embeddings.{n}.weight" for n in range(4))
_HF_POINTS = "prompt_encoder.point_embed.weight"
_META_FREQUENCIES = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_HF_FREQUENCIES = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)


def is_hf(names) -> bool:
    """Whether these are transformers' names (they have a `vision_encoder`)."""
    return any(name.startswith("vision_encoder.") for name in names)


def hf_name(meta: str) -> Optional[str]:
    """transformers' name of one of Meta's tensors; None where the two are not one to one."""
    return _rename(meta, _TO_HF)


def meta_name(hf: str) -> Optional[str]:
    """Meta's name of one of transformers' tensors; None where the two are not one to one."""
    return _rename(hf, _TO_META)


def to_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with Meta's names as one with transformers' names.

    Raises:
        CheckpointError: a key that the table does not know, or half a set of point embeddings.
    """
    found, unknown = {}, []
    points = [name for name in _META_POINTS if name in state]
    if points and len(points) < len(_META_POINTS):
        raise CheckpointError(
            f"SAM2 weights hold {len(points)} of the four point embeddings ({', '.join(points)}); "
            "the file is incomplete"
        )
    for name, value in state.items():
        if name == _META_FREQUENCIES:
            found.update({copy: value.clone() for copy in _HF_FREQUENCIES})
        elif name in _META_POINTS:
            found[_HF_POINTS] = torch.cat([state[point] for point in _META_POINTS])
        else:
            _put(found, unknown, name, hf_name(name), value)
    _refuse(unknown, "Meta's")
    return found


def to_meta(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with transformers' names as one with Meta's names.

    Raises:
        CheckpointError: a key that the table does not know, or two copies of the position
        frequencies that differ.
    """
    found, unknown = {}, []
    for name, value in state.items():
        if name in _HF_FREQUENCIES:
            other = found.setdefault(_META_FREQUENCIES, value)
            if not (value.is_meta or torch.equal(other, value)):
                raise CheckpointError(
                    f"{' and '.join(_HF_FREQUENCIES)} differ; Meta's SAM2 has one set of position "
                    "frequencies, so this checkpoint has no equal there"
                )
        elif name == _HF_POINTS:
            found.update(dict(zip(_META_POINTS, (row.clone() for row in value.split(1)))))
        else:
            _put(found, unknown, name, meta_name(name), value)
    _refuse(unknown, "transformers'")
    return found


def _put(found: dict, unknown: list, old: str, new: Optional[str], value: Tensor) -> None:
    if new is None:
        unknown.append(old)
    else:
        found[new] = value


def _refuse(unknown: list[str], family: str) -> None:
    if unknown:
        shown = ", ".join(sorted(unknown)[:8]) + (" ..." if len(unknown) > 8 else "")
        raise CheckpointError(
            f"{len(unknown)} tensor(s) have no place in a SAM2 under {family} names: {shown}; "
            "is this a SAM2 or SAM2.1 checkpoint?"
        )


def _compiled(source: int) -> tuple[tuple[re.Pattern, str], ...]:
    rows = []
    for row in TABLE:
        pattern = re.escape(row[source]).replace(r"\{", "{").replace(r"\}", "}")
        for letter, text in _PLACEHOLDERS.items():
            pattern = pattern.replace("{" + letter + "}", f"(?P<{letter}>{text})")
        rows.append((re.compile(pattern), row[1 - source]))
    return tuple(rows)


_TO_HF, _TO_META = _compiled(0), _compiled(1)


def _rename(name: str, rows: tuple[tuple[re.Pattern, str], ...]) -> Optional[str]:
    for pattern, target in rows:
        match = pattern.fullmatch(name)
        if match:
            return target.format(**match.groupdict())
    return None
