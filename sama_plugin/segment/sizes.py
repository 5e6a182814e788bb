"""Sizes of every SAM2 we can build, as data: the released 2.0 and 2.1 models and the mini one.

A row holds what differs between models; what all SAM2 models share (pointer options, mask scaling,
neck layout) is spelt out once in `build_sam2`, which assembles Meta's own classes without hydra. So
no configuration file is read and the parameter names are those of the released checkpoints. Used by
`segment/sam2.py`, the mini world and the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sama_plugin.errors import ConfigError

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base


@dataclass(frozen=True)
class Sam2Sizes:
    """Everything that tells one SAM2 from another.

    `image_size` is the square network input in pixels; the embedding has stride 16, mask logits
    stride 4. `generation` is "2.0" or "2.1" (2.1 adds a spatial no-object embedding and signed,
    projected pointer times). `width` is the channel count of embeddings, prompt tokens and object
    pointers; `memory_width` that of memories.
    """

    generation: str = "2.1"
    image_size: int = 1024
    embed_dim: int = 96
    heads: int = 1
    stages: tuple[int, ...] = (1, 2, 7, 2)
    global_blocks: tuple[int, ...] = (5, 7, 9)
    windows: tuple[int, ...] = (8, 4, 14, 7)
    background: tuple[int, int] = (7, 7)
    width: int = 256
    memory_width: int = 64
    memory_layers: int = 4
    memory_ffn: int = 2048
    memory_frames: int = 7
    dropout: float = 0.1

    @property
    def channels(self) -> list[int]:
        """Trunk channels, lowest resolution first."""
        return [self.embed_dim * 2**stage for stage in reversed(range(len(self.stages)))]


_TINY = Sam2Sizes()
_SMALL = replace(_TINY, stages=(1, 2, 11, 2), global_blocks=(7, 10, 13))
_BASE_PLUS = replace(
    _TINY,
    embed_dim=112,
    heads=2,
    stages=(2, 3, 16, 3),
    global_blocks=(12, 16, 20),
    background=(14, 14),
)
_LARGE = replace(
    _TINY,
    embed_dim=144,
    heads=2,
    stages=(2, 6, 36, 4),
    global_blocks=(23, 33, 43),
    windows=(8, 4, 16, 8),
)
_RELEASED = {"tiny": _TINY, "small": _SMALL, "base_plus": _BASE_PLUS, "large": _LARGE}

MINI = Sam2Sizes(
    image_size=128,
    embed_dim=32,
    stages=(1, 2, 3, 1),
    global_blocks=(4, 5),
    windows=(8, 8, 8, 4),
    background=(8, 8),
    width=128,
    memory_width=32,
    memory_layers=2,
    memory_ffn=256,
    dropout=0.0,
)

SIZES: dict[str, Sam2Sizes] = {
    "mini": MINI,
    **{f"sam2_hiera_{name}": replace(row, generation="2.0") for name, row in _RELEASED.items()},
    **{f"sam2.1_hiera_{name}": row for name, row in _RELEASED.items()},
}


def build_sam2(sizes: Sam2Sizes) -> SAM2Base:
    """A randomly initialised SAM2 of these sizes, made of Meta's classes, in evaluation mode.

    Raises ConfigError when the `sam2` package is missing or the image size is no multiple of 32.
    """
    try:
        from sam2.modeling.sam2_base import SAM2Base
    except ImportError as error:
        raise ConfigError(
            "the SAM2 backend needs Meta's `sam2` package: pip install 'sama_plugin[sam2]'"
        ) from error
    if sizes.image_size % 32:
        raise ConfigError(f"SAM2 image size {sizes.image_size} is not a multiple of 32 pixels")
    newer = sizes.generation == "2.1"
    model = SAM2Base(
        image_encoder=_image_encoder(sizes),
        memory_attention=_memory_attention(sizes),
        memory_encoder=_memory_encoder(sizes),
        num_maskmem=sizes.memory_frames,
        image_size=sizes.image_size,
        backbone_stride=16,
        sigmoid_scale_for_mem_enc=20.0,
        sigmoid_bias_for_mem_enc=-10.0,
        use_mask_input_as_output_without_sam=True,
        directly_add_no_mem_embed=True,
        use_high_res_features_in_sam=True,
        multimask_output_in_sam=True,
        multimask_min_pt_num=0,
        multimask_max_pt_num=1,
        multimask_output_for_tracking=True,
        use_multimask_token_for_obj_ptr=True,
        iou_prediction_use_sigmoid=True,
        use_obj_ptrs_in_encoder=True,
        add_tpos_enc_to_obj_ptrs=newer,
        proj_tpos_enc_in_obj_ptrs=newer,
        use_signed_tpos_enc_to_obj_ptrs=newer,
        only_obj_ptrs_in_the_past_for_eval=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        fixed_no_obj_ptr=True,
        use_mlp_for_obj_ptr_proj=True,
        no_obj_embed_spatial=newer,
    )
    return model.eval()


def _image_encoder(sizes: Sam2Sizes):
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder

    trunk = Hiera(
        embed_dim=sizes.embed_dim,
        num_heads=sizes.heads,
        stages=sizes.stages,
        global_att_blocks=sizes.global_blocks,
        window_pos_embed_bkg_spatial_size=sizes.background,
        window_spec=sizes.windows,
    )
    neck = FpnNeck(
        position_encoding=_sine(sizes.width),
        d_model=sizes.width,
        backbone_channel_list=sizes.channels,
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    return ImageEncoder(trunk=trunk, neck=neck, scalp=1)


def _memory_attention(sizes: Sam2Sizes):
    from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer

    layer = MemoryAttentionLayer(
        activation="relu",
        cross_attention=_rope_attention(sizes, rope_k_repeat=True, kv_in_dim=sizes.memory_width),
        d_model=sizes.width,
        dim_feedforward=sizes.memory_ffn,
        dropout=sizes.dropout,
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        self_attention=_rope_attention(sizes),
    )
    return MemoryAttention(
        d_model=sizes.width, pos_enc_at_input=True, layer=layer, num_layers=sizes.memory_layers
    )


def _rope_attention(sizes: Sam2Sizes, **keys):
    from sam2.modeling.sam.transformer import RoPEAttention

    grid = sizes.image_size // 16
    return RoPEAttention(
        rope_theta=10000.0,
        feat_sizes=(grid, grid),
        embedding_dim=sizes.width,
        num_heads=1,
        downsample_rate=1,
        dropout=sizes.dropout,
        **keys,
    )


def _memory_encoder(sizes: Sam2Sizes):
    from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder

    return MemoryEncoder(
        out_dim=sizes.memory_width,
        position_encoding=_sine(sizes.memory_width),
        mask_downsampler=MaskDownSampler(embed_dim=sizes.width, kernel_size=3, stride=2, padding=1),
        fuser=Fuser(
            CXBlock(
                dim=sizes.width,
                kernel_size=7,
                padding=3,
                layer_scale_init_value=1e-6,
                use_dwconv=True,
            ),
            num_layers=2,
        ),
        in_dim=sizes.width,
    )


def _sine(width: int):
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    return PositionEmbeddingSine(num_pos_feats=width, normalize=True, scale=None, temperature=10000)
