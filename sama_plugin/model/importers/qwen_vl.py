"""The Qwen-VL host inside a Sa2VA checkpoint of the Qwen families, under transformers' own names.

These checkpoints wrap the stock `Qwen2_5_VLForConditionalGeneration` or
`Qwen3VLForConditionalGeneration`, so every name has `model.` before it; files written by
transformers before 4.52 also lack the inner `model.` of the vision tower and `language_model.` of
the decoder. Used by `sama.py` in this folder, in the place of `internvl.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

import torch

from sama_plugin.errors import CheckpointError
from sama_plugin.model.importers.description import copy_tokenizer
from sama_plugin.model.importers.rules import Rule, drop, prefixed
from sama_plugin.model.importers.shards import Checkpoint, token_ids

IMAGE_TOKEN = "<|image_pad|>"
CLASSES = {
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
}
_NOT_MODEL = ("architectures", "auto_map", "model_type", "_name_or_path", "template", "dtype")
_NOT_MODEL += ("torch_dtype", "transformers_version", "attn_implementation")
_HEAD = "model.lm_head.weight"
_TABLES = ("model.model.language_model.embed_tokens.weight", "model.model.embed_tokens.weight")


def matches(source: Checkpoint) -> bool:
    """A Qwen-VL table under the wrapper's `model.`."""
    return any(table in source for table in _TABLES)


def rules(source: Checkpoint) -> Sequence[Rule]:
    """Names of the wrapped host, new and old, without the wrapper."""
    tied_head = drop(r"model\.lm_head\.weight", "equals the input embeddings, to which it is tied")
    return (
        drop(r"model\..*\.inv_freq", "computed from the config"),
        tied_head if tied(source) else Rule(r"model\.(lm_head\.weight)", (r"host:\1",)),
        Rule(r"model\.(model\.(?:visual|language_model)\..*)", (r"host:\1",)),
        Rule(r"model\.(visual\..*)", (r"host:model.\1",)),
        Rule(
            r"model\.model\.((?:layers|norm|embed_tokens)\..*)", (r"host:model.language_model.\1",)
        ),
    )


def tied(source: Checkpoint) -> bool:
    """Whether the language model has one table for input and output, as in `internvl.tied`."""
    table, head = embedding_names(source)
    if head not in source:
        return True
    text = source.config.get("text_config") or {}
    said = source.config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    return bool(said) and torch.equal(source.read(table), source.read(head))


def embedding_names(source: Checkpoint) -> tuple[str, str]:
    """Names of the input and output embeddings in the source."""
    return next(table for table in _TABLES if table in source), _HEAD


def native_config(source: Checkpoint) -> Any:
    """The config of the wrapped class.

    Raises:
        CheckpointError: a family that is neither Qwen2.5-VL nor Qwen3-VL, or no tokenizer files.
    """
    from transformers import CONFIG_MAPPING

    config = source.config
    named = [
        (config.get(part) or {}).get("model_type") for part in ("text_config", "vision_config")
    ]
    kinds = [str(name).removesuffix("_text") for name in named if name]
    kind = next((kind for kind in kinds if kind in CLASSES), None)
    if kind is None:
        raise CheckpointError(
            f"{source.path}/config.json names the families {', '.join(kinds) or '(none)'}; Sa2VA "
            f"on Qwen is imported with {', '.join(CLASSES)}"
        )
    if IMAGE_TOKEN not in token_ids(source.path):
        raise CheckpointError(
            f"no tokenizer file of {source.path} names {IMAGE_TOKEN}; copy the tokenizer beside "
            "the weights"
        )
    native = CONFIG_MAPPING[kind](**{k: v for k, v in config.items() if k not in _NOT_MODEL})
    native.text_config.vocab_size = source.shapes[embedding_names(source)[0]][0]
    native.tie_word_embeddings = native.text_config.tie_word_embeddings = tied(source)
    return native


def expected(native: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the native model of this config, as "host:name"."""
    import transformers

    with torch.device("meta"):
        model = getattr(transformers, CLASSES[native.model_type])(native)
    names = prefixed("host", model.state_dict())
    if native.tie_word_embeddings:
        names.pop("host:lm_head.weight", None)
    return names


def describe(native: Any) -> Mapping[str, Any]:
    """What an adapter's config.json says of this host."""
    from sama_plugin.hosts.qwen_vl.adapter import Qwen3VLAdapter, Qwen25VLAdapter

    adapter = {one.name: one for one in (Qwen25VLAdapter, Qwen3VLAdapter)}[native.model_type]()
    return {
        "host": adapter.name,
        "family": adapter.language,
        "width": native.text_config.hidden_size,
        "frame_wording": adapter.visual_prefix(1, 0, True),
    }


def write_description(source: Checkpoint, native: Any, folder: Path) -> None:
    """`config.json` of the native class, and the source's tokenizer and processor files."""
    native.architectures = [CLASSES[native.model_type]]
    native.save_pretrained(str(folder))
    copy_tokenizer(source.path, folder, source.config)
