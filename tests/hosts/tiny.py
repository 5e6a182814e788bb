"""Tiny random hosts of every family: real classes, one tokenizer, width 48, built in a blink.

`TINY[name].build(seed)` gives (model, tokenizer). All read 64-pixel frames; visual tokens a frame
differ. `native(model, ids, pixels)` are the keyword arguments a user of the bare host would pass
for these token ids and these frames, written without the adapter.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any, Callable

import pytest
import torch

from tests.tiny_tokenizer import tiny_tokenizer

WIDTH, SIDE = 48, 64
EXTRA = (
    "<image>",
    "<video>",
    "<|vision_start|>",
    "<|image_pad|>",
    "<|vision_end|>",
    "<|video_pad|>",
)


@dataclass(frozen=True)
class TinyHost:
    """How a host is built and called."""

    build: Callable[..., Any]
    native: Callable[[Any, torch.Tensor, torch.Tensor], dict[str, Any]]


@functools.lru_cache(maxsize=1)
def _tokenizer() -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(list(EXTRA), special_tokens=True)
    return tokenizer


def text_config(family: str = "qwen2", **changes: Any) -> dict[str, Any]:
    """A language model of `family` with two layers; it fits the tokenizer with no spare row."""
    tokenizer = _tokenizer()
    return {
        "model_type": family,
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "intermediate_size": 96,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 2048,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.1,
        **changes,
    }


def internvl(seed: int = 0, tied: bool = True, **text: Any) -> tuple[Any, Any]:
    """Native InternVL; `text` chooses and changes the language model."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    config = InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "image_size": [SIDE, SIDE],
            "patch_size": [8, 8],
        },
        text_config=text_config(**{"family": "qwen2", "tie_word_embeddings": tied, **text}),
        image_token_id=_id("<IMG_CONTEXT>"),
        image_seq_length=16,
        tie_word_embeddings=tied,
    )
    return _made(InternVLForConditionalGeneration, config, seed)


def _tower(kind: str, patch: int) -> dict[str, Any]:
    return {
        "model_type": kind,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": SIDE,
        "patch_size": patch,
    }


def llava(seed: int = 0, **text: Any) -> tuple[Any, Any]:
    """LLaVA 1.5: CLIP patches, class token cut off."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        vision_config=_tower("clip_vision_model", 16),
        text_config=text_config(**text),
        image_token_id=_id("<image>"),
        tie_word_embeddings=False,
    )
    return _made(LlavaForConditionalGeneration, config, seed)


def llava_next_video(seed: int = 0, **text: Any) -> tuple[Any, Any]:
    """LLaVA-NeXT-Video: patches pooled two by two."""
    from transformers import LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration

    config = LlavaNextVideoConfig(
        vision_config=_tower("clip_vision_model", 8),
        text_config=text_config(**text),
        image_token_id=_id("<image>"),
        video_token_id=_id("<video>"),
        image_grid_pinpoints=[[SIDE, SIDE]],
        tie_word_embeddings=False,
    )
    return _made(LlavaNextVideoForConditionalGeneration, config, seed)


def llava_onevision(seed: int = 0, **text: Any) -> tuple[Any, Any]:
    """LLaVA-OneVision: SigLIP patches, halved, a newline vector behind."""
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    config = LlavaOnevisionConfig(
        vision_config={**_tower("siglip_vision_model", 8), "vision_use_head": False},
        text_config=text_config(**text),
        image_token_id=_id("<image>"),
        video_token_id=_id("<video>"),
        image_grid_pinpoints=[[SIDE, SIDE]],
        tie_word_embeddings=False,
    )
    return _made(LlavaOnevisionForConditionalGeneration, config, seed)


def _qwen_tower(**changes: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "depth": 3,
        "num_heads": 2,
        "intermediate_size": 64,
        "patch_size": 8,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": WIDTH,
        **changes,
    }


def _qwen_text(family: str) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}
    return text_config(family, rope_parameters=rope, rope_scaling=dict(rope))


def qwen2_5_vl(seed: int = 0) -> tuple[Any, Any]:
    """Qwen2.5-VL with window attention (one token a window) in two of three vision layers."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig(
        vision_config=_qwen_tower(window_size=16, fullatt_block_indexes=[2]),
        text_config=_qwen_text("qwen2_5_vl_text"),
        vocab_size=len(_tokenizer()),  # released configurations have it here too
        tie_word_embeddings=False,
        **_qwen_ids(),
    )
    return _made(Qwen2_5_VLForConditionalGeneration, config, seed)


def qwen3_vl(seed: int = 0) -> tuple[Any, Any]:
    """Qwen3-VL with two deepstack levels."""
    _needs("Qwen3VLConfig")
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    config = Qwen3VLConfig(
        vision_config=_qwen_tower(deepstack_visual_indexes=[0, 1], num_position_embeddings=64),
        text_config=_qwen_text("qwen3_vl_text"),
        tie_word_embeddings=False,
        **_qwen_ids(),
    )
    return _made(Qwen3VLForConditionalGeneration, config, seed)


def _qwen_ids() -> dict[str, int]:
    return {
        "image_token_id": _id("<|image_pad|>"),
        "video_token_id": _id("<|video_pad|>"),
        "vision_start_token_id": _id("<|vision_start|>"),
        "vision_end_token_id": _id("<|vision_end|>"),
    }


def _made(kind: Any, config: Any, seed: int) -> tuple[Any, Any]:
    import copy

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
    model.generation_config.eos_token_id = _tokenizer().eos_token_id
    model.generation_config.pad_token_id = _tokenizer().pad_token_id
    return model.eval(), copy.deepcopy(_tokenizer())


def _needs(name: str) -> None:
    """Skip the test where the installed transformers is older than a host."""
    import transformers

    if not hasattr(transformers, name):
        pytest.skip(f"transformers {transformers.__version__} has no {name}")


def _id(token: str) -> int:
    return _tokenizer().convert_tokens_to_ids(token)


def _plain(model: Any, ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, Any]:
    return {"pixel_values": pixels}


def _one_video(model: Any, ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, Any]:
    return {"pixel_values_videos": pixels[None]}


def _videos(model: Any, ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, Any]:
    return {"pixel_values_videos": pixels[:, None]}


def _patches(model: Any, ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, Any]:
    """Qwen's patch rows, one by one."""
    rows = []
    for frame in pixels:
        for row in range(0, SIDE, 16):
            for column in range(0, SIDE, 16):
                for y in (row, row + 8):
                    for x in (column, column + 8):
                        patch = frame[:, y : y + 8, x : x + 8]
                        rows.append(torch.stack([patch, patch], dim=1).flatten())
    inputs = {
        "pixel_values": torch.stack(rows),
        "image_grid_thw": torch.tensor([[1, 8, 8]] * len(pixels)),
    }
    if "mm_token_type_ids" in inspect.signature(model.forward).parameters:  # transformers 5
        inputs["mm_token_type_ids"] = (ids == _id("<|image_pad|>")).int()
    return inputs


TINY = {
    "qwen2_5_vl": TinyHost(qwen2_5_vl, _patches),
    "qwen3_vl": TinyHost(qwen3_vl, _patches),
    "internvl_qwen3": TinyHost(functools.partial(internvl, family="qwen3"), _plain),
    "internvl": TinyHost(internvl, _plain),
    "llava": TinyHost(llava, _plain),
    "llava_next_video": TinyHost(llava_next_video, _one_video),
    "llava_onevision": TinyHost(llava_onevision, _videos),
}
