"""Tiny checkpoints with the exact names of published ones, and what they must become.

A native tiny InternVL is written under remote-code names, key by key and by hand, so that the
importer's table is checked against another one.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from sama_plugin.model.config import AggregatorConfig, RegionConfig
from sama_plugin.nn.aggregator import build_aggregator
from sama_plugin.nn.names import released_name
from sama_plugin.nn.region import build_region_encoder
from sama_plugin.nn.seg import SegHead
from sama_plugin.segment.sizes import build_sam2
from tests.segment.tiny import TINY

WIDTH, HEADS, KEY_HEADS, HIDDEN, VOCABULARY = 32, 4, 2, 16, 24
TOKENS = {"<IMG_CONTEXT>": 10, "[SEG]": 11, "<p>": 12, "</p>": 13, "<vp>": 14, "</vp>": 15}
VISION = {
    "hidden_size": 16,
    "image_size": 28,
    "patch_size": 7,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "qkv_bias": True,
    "norm_type": "layer_norm",
}
_EMBEDDINGS = "vision_model.embeddings"
_TOWER = (
    ("model.vision_tower.embeddings.cls_token", "vision_model.embeddings.class_embedding"),
    ("model.vision_tower.embeddings.position_embeddings", f"{_EMBEDDINGS}.position_embedding"),
    ("embeddings.patch_embeddings.projection", "embeddings.patch_embedding"),
    ("model.vision_tower.encoder.layer.", "vision_model.encoder.layers."),
    ("model.vision_tower.", "vision_model."),
    ("attention.projection_layer", "attn.proj"),
    ("attention.q_norm", "attn.q_norm"),
    ("attention.k_norm", "attn.k_norm"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("lambda_", "ls"),
    ("model.multi_modal_projector.layer_norm", "mlp1.0"),
    ("model.multi_modal_projector.linear_1", "mlp1.1"),
    ("model.multi_modal_projector.linear_2", "mlp1.3"),
    ("model.language_model.", "language_model.model."),
    ("lm_head.weight", "language_model.lm_head.weight"),
)
_INTERNLM = (
    ("language_model.model.embed_tokens", "language_model.model.tok_embeddings"),
    ("language_model.lm_head", "language_model.output"),
    ("self_attn.o_proj", "attention.wo"),
    ("mlp.gate_proj", "feed_forward.w1"),
    ("mlp.down_proj", "feed_forward.w2"),
    ("mlp.up_proj", "feed_forward.w3"),
    ("post_attention_layernorm", "ffn_norm"),
    ("input_layernorm", "attention_norm"),
)


def language(architecture: str, tied: bool = False) -> dict:
    """`llm_config` of a tiny language model."""
    return {
        "architectures": [architecture],
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "head_dim": WIDTH // HEADS,
        "vocab_size": 999,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": 128,
        "tie_word_embeddings": tied,
        **({"bias": False} if architecture == "InternLM2ForCausalLM" else {}),
    }


def native_model(architecture: str, tied: bool = False, rows: int = VOCABULARY) -> nn.Module:
    """The native InternVL that a checkpoint of this language must become, with random weights.

    Args:
        rows: of the embedding table.
    """
    from transformers import CONFIG_MAPPING, InternVLConfig, InternVLForConditionalGeneration

    family = {"InternLM2ForCausalLM": "llama"}.get(architecture, architecture[:5].lower())
    kept = {k: v for k, v in language(architecture, tied).items() if k not in ("bias",)}
    kept.pop("architectures")
    kept["vocab_size"] = rows
    side, patch = [VISION["image_size"]] * 2, [VISION["patch_size"]] * 2
    vision = {**VISION, "image_size": side, "patch_size": patch, "attention_bias": True}
    vision.pop("qkv_bias")
    torch.manual_seed(1)
    model = InternVLForConditionalGeneration(
        InternVLConfig(
            vision_config=vision,
            text_config=CONFIG_MAPPING[family](**kept),
            image_token_id=10,
            image_seq_length=4,
            tie_word_embeddings=tied,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def remote_state(model: nn.Module, architecture: str) -> dict[str, torch.Tensor]:
    """The weights of a native model under the names of the remote code."""
    state, renamed = dict(model.state_dict()), {}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight")
    for name, value in state.items():
        for ours, theirs in _TOWER:
            name = name.replace(ours, theirs) if ours in name else name
        if architecture == "InternLM2ForCausalLM":
            for ours, theirs in _INTERNLM:
                name = name.replace(ours, theirs)
        renamed[name] = value
    return _fuse(renamed, architecture)


def _fuse(state: dict, architecture: str) -> dict:
    fused = dict(state)
    for name in state:
        match = re.fullmatch(r"(vision_model\..*)\.attention\.q_proj\.(\w+)", name)
        if match:
            parts = [fused.pop(f"{match[1]}.attention.{x}_proj.{match[2]}") for x in "qkv"]
            fused[f"{match[1]}.attn.qkv.{match[2]}"] = torch.cat(parts)
        match = re.fullmatch(r"(language_model\..*)\.self_attn\.q_proj\.weight", name)
        if match and architecture == "InternLM2ForCausalLM":
            rows, size = [], WIDTH // HEADS
            q, k, v = (fused.pop(f"{match[1]}.self_attn.{x}_proj.weight") for x in "qkv")
            group = HEADS // KEY_HEADS
            for number in range(KEY_HEADS):
                rows.append(q[number * group * size : (number + 1) * group * size])
                rows += [part[number * size : (number + 1) * size] for part in (k, v)]
            fused[f"{match[1]}.attention.wqkv.weight"] = torch.cat(rows)
    return fused


def sam2_state(start: str = "") -> dict[str, torch.Tensor]:
    """A tiny SAM2.0 under Meta's names; inside other checkpoints with their spelling of `gamma`."""
    torch.manual_seed(2)
    state = build_sam2(SIZES_INSIDE).state_dict()
    if start:
        state = {start + name.replace(".gamma", ".g_weight"): v for name, v in state.items()}
    return state


SEGMENTER = "sam2_of_these_tests"
SIZES_INSIDE = replace(TINY, generation="2.0")


def head_state(modules: nn.ModuleDict) -> dict[str, torch.Tensor]:
    """Our modules' weights under released names."""
    state = modules.state_dict()
    return {released_name(name): v for name, v in state.items() if released_name(name) is not None}


def sama_modules(aggregator: bool = True, width: int = WIDTH) -> nn.ModuleDict:
    """Region encoder, aggregator and [SEG] head of the released layout at tiny sizes."""
    torch.manual_seed(3)
    settings = AggregatorConfig(
        hidden=HIDDEN,
        heads=1,
        ffn=20,
        spatial_layers=3,
        temporal_layers=2,
        spatial_queries=4,
        temporal_queries=5,
        encoder_width=12,
        time_embedding=False,
        focus=False,
        question="wordpiece",
    )
    parts = {"seg_head": SegHead(width, TINY.width)}
    if aggregator:
        region = RegionConfig(shape_size=8, shape_hidden=6)
        parts["region"] = build_region_encoder(region, width, HIDDEN)
        parts["aggregator"] = build_aggregator(settings, width)
    return nn.ModuleDict(parts)


def sama_state(
    modules: nn.ModuleDict, architecture: str, rows: int = VOCABULARY
) -> tuple[dict, nn.Module]:
    """A whole released SAMA (or Sa2VA, without an aggregator) checkpoint, and its host."""
    model = native_model(architecture, rows=rows)
    state = {**remote_state(model, architecture), **sam2_state("grounding_encoder.sam2_model.")}
    state.update(head_state(modules))
    if "aggregator" in modules:
        for part in ("spatial", "temporal"):
            place = f"{part}_Qformer.bert.embeddings.position_ids"
            state[place] = torch.arange(8)[None]
        last = "temporal_Qformer.bert.encoder.layer.1"
        for name in ("intermediate.dense.weight", "output.dense.weight", "output.LayerNorm.bias"):
            state[f"{last}.{name}"] = torch.zeros(2, 2)
    return state, model


def write(folder: Path, state: dict, architecture: str = "", shards: int = 1, **config) -> Path:
    """A checkpoint folder with config, tokenizer and index."""
    folder.mkdir(parents=True, exist_ok=True)
    if architecture:
        described = {
            "model_type": "internvl_chat",
            "vision_config": VISION,
            "llm_config": language(architecture),
            "downsample_ratio": 0.5,
            "ps_version": "v2",
            "select_layer": -1,
            **config,
        }
        (folder / "config.json").write_text(json.dumps(described))
        (folder / "added_tokens.json").write_text(json.dumps(TOKENS))
    names, places = sorted(state), {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: state[name].contiguous().clone() for name in names[number::shards]}
        save_file(part, str(folder / file))
        places.update(dict.fromkeys(part, file))
    if shards > 1:
        index = {"metadata": {}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
