"""transformers' SAM2 of the sizes in `sizes.py`.

Two things are set right after the model is built, because `Sam2VideoModel` takes them from no
configuration: the width of memories that its cross-attention reads is written as 64 in its source,
and its mask decoder may fall back to another candidate on its own (our backend says when). Used by
`sam2_hf.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from sama_plugin.errors import ConfigError
from sama_plugin.segment.sizes import Sam2Sizes

if TYPE_CHECKING:
    from transformers import Sam2VideoConfig, Sam2VideoModel


def hf_config(sizes: Sam2Sizes) -> Sam2VideoConfig:
    """The configuration that makes `Sam2VideoModel` the same network as `build_sam2(sizes)`.

    Raises ConfigError when the installed transformers has no SAM2 video model.
    """
    try:
        from transformers import Sam2VideoConfig
    except ImportError as error:
        raise ConfigError(
            "this transformers has no Sam2VideoModel; upgrade it, or use the segmenter of the same "
            "name without the `hf_` prefix, which needs Meta's `sam2` package"
        ) from error
    newer, width, side = sizes.generation == "2.1", sizes.width, sizes.image_size
    return Sam2VideoConfig(
        vision_config=_vision_config(sizes),
        prompt_encoder_config={"hidden_size": width, "image_size": side},
        mask_decoder_config={"hidden_size": width},
        num_maskmem=sizes.memory_frames,
        image_size=side,
        enable_occlusion_spatial_embedding=newer,
        enable_temporal_pos_encoding_for_object_pointers=newer,
        memory_attention_hidden_size=width,
        memory_attention_num_layers=sizes.memory_layers,
        memory_attention_feed_forward_hidden_size=sizes.memory_ffn,
        memory_attention_dropout=sizes.dropout,
        memory_attention_rope_dropout=sizes.dropout,
        memory_attention_rope_feat_sizes=[side // 16, side // 16],
        memory_encoder_hidden_size=width,
        memory_encoder_output_channels=sizes.memory_width,
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=4 * width,
    )


def build_hf_sam2(sizes: Sam2Sizes) -> Sam2VideoModel:
    """A randomly initialised `Sam2VideoModel` of these sizes, in evaluation mode."""
    config = hf_config(sizes)
    from transformers import Sam2VideoModel

    model = Sam2VideoModel(config)
    for layer in model.memory_attention.layers:
        attention = layer.cross_attn_image
        if attention.k_proj.in_features != sizes.memory_width:
            attention.k_proj = nn.Linear(sizes.memory_width, sizes.width)
            attention.v_proj = nn.Linear(sizes.memory_width, sizes.width)
    return model.eval()


def _vision_config(sizes: Sam2Sizes):
    from transformers import Sam2HieraDetConfig, Sam2VisionConfig

    stages, side = range(len(sizes.stages)), sizes.image_size
    backbone = Sam2HieraDetConfig(
        hidden_size=sizes.embed_dim,
        num_attention_heads=sizes.heads,
        image_size=[side, side],
        window_positional_embedding_background_size=list(sizes.background),
        blocks_per_stage=list(sizes.stages),
        embed_dim_per_stage=[sizes.embed_dim * 2**stage for stage in stages],
        num_attention_heads_per_stage=[sizes.heads * 2**stage for stage in stages],
        window_size_per_stage=list(sizes.windows),
        global_attention_blocks=list(sizes.global_blocks),
    )
    return Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=sizes.channels,
        backbone_feature_sizes=[[side // stride, side // stride] for stride in (4, 8, 16)],
        fpn_hidden_size=sizes.width,
    )
