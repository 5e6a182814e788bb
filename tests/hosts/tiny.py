"""Tiny random hosts of every family: real classes, one tokenizer, width 48, built in a blink.

`TINY[name].build(seed)` gives (model, tokenizer). All read 64-pixel frames; visual tokens a frame
differ. `native(model, ids, pixels)` are the keyword arguments a user of the bare host would pass
for these token ids and these frames, written without the adapter.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Callable

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


def llava(seed: int = 0) -> tuple[Any, Any]:
    """LLaVA 1.5: CLIP patches, class token cut off."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        vision_config=_tower("clip_vision_model", 16),
        text_config=text_config(),
        image_token_id=_id("<image>"),
        tie_word_embeddings=False,
    )
    return _made(LlavaForConditionalGeneration, config, seed)


def llava_next_video(seed: int = 0) -> tuple[Any, Any]:
    """LLaVA-NeXT-Video: patches pooled two by two."""
    from transformers import LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration

    config = LlavaNextVideoConfig(
        vision_config=_tower("clip_vision_model", 8),
        text_config=text_config(),
        image_token_id=_id("<image>"),
        video_token_id=_id("<video>"),
        image_grid_pinpoints=[[SIDE, SIDE]],
        tie_word_embeddings=False,
    )
    return _made(LlavaNextVideoForConditionalGeneration, config, seed)


def llava_onevision(seed: int = 0) -> tuple[Any, Any]:
    """LLaVA-OneVision: SigLIP patches, halved, a newline vector behind."""
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    config = LlavaOnevisionConfig(
        vision_config={**_tower("siglip_vision_model", 8), "vision_use_head": False},
        text_config=text_config(),
        image_token_id=_id("<image>"),
        video_token_id=_id("<video>"),
        image_grid_pinpoints=[[SIDE, SIDE]],
        tie_word_embeddings=False,
    )
    return _made(LlavaOnevisionForConditionalGeneration, config, seed)


def _made(kind: Any, config: Any, seed: int) -> tuple[Any, Any]:
    import copy

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
    model.generation_config.eos_token_id = _tokenizer().eos_token_id
    model.generation_config.pad_token_id = _tokenizer().pad_token_id
    return model.eval(), copy.deepcopy(_tokenizer())


def _id(token: str) -> int:
    return _tokenizer().convert_tokens_to_ids(token)


def _plain(model: Any, ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, Any]:
    return {"pixel_values": pixels}


def _one_video(model: Any, ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, Any]:
    return {"pixel_values_videos": pixels[None]}


def _videos(model: Any, ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, Any]:
    return {"pixel_values_videos": pixels[:, None]}


TINY = {
    "internvl": TinyHost(internvl, _plain),
    "llava": TinyHost(llava, _plain),
    "llava_next_video": TinyHost(llava_next_video, _one_video),
    "llava_onevision": TinyHost(llava_onevision, _videos),
}
