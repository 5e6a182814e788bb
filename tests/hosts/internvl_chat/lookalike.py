"""The lookalike tree's model, tiny, with the tokenizer of the other tiny hosts."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any, Mapping

import torch

from tests.hosts.tiny import SIDE, _made, text_config

TREE = Path(__file__).with_name("tree")
EMPTY: Mapping[str, Any] = MappingProxyType({})


def classes() -> Any:
    """The module of the tree's model class."""
    if str(TREE) not in sys.path:
        sys.path.insert(0, str(TREE))
    return importlib.import_module("internvl.model.internvl_chat")


def internvl_chat(
    seed: int = 0, family: str = "qwen2", text: Mapping[str, Any] = EMPTY, **changes: Any
) -> tuple[Any, Any]:
    """(model, tokenizer); `text` changes the language model, `changes` the whole."""
    vision = {"hidden_size": 24, "image_size": SIDE, "patch_size": 8}
    own = {"tie_word_embeddings": False, "architectures": ["Qwen2ForCausalLM"], **text}
    config = classes().InternVLChatConfig(vision, text_config(family, **own), **changes)
    model, tokenizer = _made(Holder, config, seed)
    model.img_context_token_id = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    return model, tokenizer


def Holder(config: Any) -> Any:
    """The model with a generation config, which its class does not make."""
    from transformers import GenerationConfig

    model = classes().InternVLChatModel(config)
    model.generation_config = GenerationConfig()
    return model


def native(model: Any, ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, Any]:
    """What a user of the bare class passes beside the token ids."""
    return {"pixel_values": pixels, "image_flags": torch.ones(len(pixels), dtype=torch.long)}
