"""The mini host: a real `InternVLForConditionalGeneration` small enough to learn the mini world on
one CPU core.

Only sizes differ from InternVL3: a ViT with pixel shuffle 0.5 and an MLP projector, a Qwen2
decoder, ChatML, the same special tokens. A 128x128 frame costs 64 tokens. It sees and talks; it
knows nothing of regions or masks, which is what `--plugin sama` then adds. `load_mini` gives the
packaged weights (made by `pretrain_host.py`), `build_mini` the same model with random weights,
`tiny_host` a much smaller one for unit tests. Used by the demo, the tests and the docs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sama_plugin.assets import asset
from sama_plugin.errors import HostError
from sama_plugin.hosts.precision import dtype_option
from sama_plugin.miniworld.tokenizer import build_tokenizer

if TYPE_CHECKING:
    from transformers import (
        InternVLConfig,
        InternVLForConditionalGeneration,
        PreTrainedTokenizerFast,
    )

ASSET = "mini/host"


@dataclass(frozen=True)
class HostShape:
    """Sizes of a small native InternVL.

    `image` and `patch` are pixels; a frame gives `(image / patch / 2) ** 2` tokens after pixel
    shuffle.
    """

    image: int = 128
    patch: int = 8
    vision_width: int = 128
    vision_layers: int = 4
    vision_heads: int = 4
    vision_ffn: int = 384
    width: int = 192
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 512
    positions: int = 4096

    @property
    def grid(self) -> int:
        """Rows (= columns) of visual tokens of one frame."""
        return self.image // self.patch // 2

    @property
    def tokens_per_frame(self) -> int:
        return self.grid**2


MINI = HostShape()
TINY = HostShape(
    image=64,
    patch=8,
    vision_width=32,
    vision_layers=1,
    vision_heads=2,
    vision_ffn=64,
    width=48,
    layers=2,
    heads=4,
    kv_heads=2,
    ffn=96,
)


def host_config(shape: HostShape, tokenizer: PreTrainedTokenizerFast) -> InternVLConfig:
    """The transformers configuration of `shape`; sizes of the tokenizer are read from it.

    The usual initial spread of 0.02 suits widths near 1000; narrow layers learn several times
    sooner when it grows as their width shrinks.
    """
    from transformers import InternVLConfig

    return InternVLConfig(
        vision_config={
            "hidden_size": shape.vision_width,
            "num_hidden_layers": shape.vision_layers,
            "num_attention_heads": shape.vision_heads,
            "intermediate_size": shape.vision_ffn,
            "image_size": [shape.image, shape.image],
            "patch_size": [shape.patch, shape.patch],
            "attention_bias": True,
            "layer_scale_init_value": 1.0,
            "initializer_range": shape.vision_width**-0.5 / 2,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": shape.width,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "intermediate_size": shape.ffn,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": shape.positions,
            "rope_theta": 1e6,
            "initializer_range": shape.width**-0.5 / 2,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        image_token_id=tokenizer.convert_tokens_to_ids(tokenizer.context_image_token),
        image_seq_length=shape.tokens_per_frame,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )


def build_host(
    shape: HostShape, seed: int = 0
) -> tuple[InternVLForConditionalGeneration, PreTrainedTokenizerFast]:
    """A host of any `shape` with random weights that depend on `seed` only; fp32, eval mode, global
    RNG untouched.
    """
    import torch
    from transformers import GenerationConfig, InternVLForConditionalGeneration

    tokenizer = build_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = InternVLForConditionalGeneration(host_config(shape, tokenizer))
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=96,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model.eval(), tokenizer


def build_mini(
    seed: int = 0,
) -> tuple[InternVLForConditionalGeneration, PreTrainedTokenizerFast]:
    """The mini host with random weights (about 3.5 M parameters)."""
    return build_host(MINI, seed)


def tiny_host(
    seed: int = 0,
) -> tuple[InternVLForConditionalGeneration, PreTrainedTokenizerFast]:
    """A host for unit tests: 64x64 frames, 16 tokens a frame, width 48; same classes and tokenizer
    as the mini.
    """
    return build_host(TINY, seed)


def load_mini(
    folder: str | Path | None = None,
) -> tuple[InternVLForConditionalGeneration, PreTrainedTokenizerFast]:
    """The pre-trained mini host in fp32 (packaged in 16 bit), from the package or from `folder`.

    Raises:
        SamaError: the package holds no mini host.
        HostError: the folder's tokenizer and model do not belong together.
    """
    import torch
    from transformers import AutoTokenizer, InternVLForConditionalGeneration

    folder = Path(folder) if folder is not None else asset(ASSET)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = InternVLForConditionalGeneration.from_pretrained(
        folder, **dtype_option(torch.float32), local_files_only=True
    )
    rows = model.get_input_embeddings().num_embeddings
    if rows != len(tokenizer):
        raise HostError(
            f"mini host in {folder}: {rows} embedding rows but {len(tokenizer)} tokens; "
            "export it again with recipes/mini/host.sh"
        )
    return model.eval(), tokenizer
