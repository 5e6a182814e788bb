"""Remote-code InternVL (`InternVLChatModel` and what is built on it) to the native class of
transformers.

Both compute the same thing; names differ, the vision tower's q, k and v are fused in the remote
code, and InternLM2 fuses them in groups (it becomes Llama, which it equals). Languages: Qwen2,
Qwen3, Llama, InternLM2. Used by `sama import` for InternVL itself, and for the host inside SAMA and
Sa2VA checkpoints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

import torch

from sama_plugin.errors import CheckpointError
from sama_plugin.hosts.internvl.prompt import IMAGE_TOKEN, visual_prefix
from sama_plugin.model.importers.description import copy_tokenizer
from sama_plugin.model.importers.rules import Rule, drop, grouped, prefixed, thirds
from sama_plugin.model.importers.shards import Checkpoint, token_ids

FAMILIES = {
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "LlamaForCausalLM": "llama",
    "InternLM2ForCausalLM": "llama",
}
_WB = r"(weight|bias)"
_TOWER, _LAYER = "host:model.vision_tower", "host:model.vision_tower.encoder.layer"
_BLOCK = r"vision_model\.encoder\.layers\.(\d+)"
_TEXT = "host:model.language_model"
_NOT_MODEL = {
    *("architectures", "auto_map", "_name_or_path", "attn_implementation", "torch_dtype", "dtype"),
    *("transformers_version", "model_type", "bias", "vocab_size", "_attn_implementation"),
    *("use_bfloat16", "return_dict", "output_attentions", "output_hidden_states", "torchscript"),
}

VISION = (
    Rule(r"vision_model\.embeddings\.class_embedding", (f"{_TOWER}.embeddings.cls_token",)),
    Rule(
        r"vision_model\.embeddings\.position_embedding",
        (f"{_TOWER}.embeddings.position_embeddings",),
    ),
    Rule(
        rf"vision_model\.embeddings\.patch_embedding\.{_WB}",
        (rf"{_TOWER}.embeddings.patch_embeddings.projection.\1",),
    ),
    Rule(
        rf"{_BLOCK}\.attn\.qkv\.{_WB}",
        tuple(rf"{_LAYER}.\1.attention.{letter}_proj.\2" for letter in "qkv"),
        thirds,
    ),
    Rule(rf"{_BLOCK}\.attn\.proj\.{_WB}", (rf"{_LAYER}.\1.attention.projection_layer.\2",)),
    Rule(rf"{_BLOCK}\.attn\.([qk])_norm\.{_WB}", (rf"{_LAYER}.\1.attention.\2_norm.\3",)),
    Rule(rf"{_BLOCK}\.norm1\.{_WB}", (rf"{_LAYER}.\1.layernorm_before.\2",)),
    Rule(rf"{_BLOCK}\.norm2\.{_WB}", (rf"{_LAYER}.\1.layernorm_after.\2",)),
    Rule(rf"{_BLOCK}\.ls([12])", (rf"{_LAYER}.\1.lambda_\2",)),
    Rule(rf"{_BLOCK}\.mlp\.fc([12])\.{_WB}", (rf"{_LAYER}.\1.mlp.fc\2.\3",)),
    Rule(rf"mlp1\.0\.{_WB}", (r"host:model.multi_modal_projector.layer_norm.\1",)),
    Rule(rf"mlp1\.1\.{_WB}", (r"host:model.multi_modal_projector.linear_1.\1",)),
    Rule(rf"mlp1\.3\.{_WB}", (r"host:model.multi_modal_projector.linear_2.\1",)),
)


def language_rules(config: Mapping[str, Any], tied: bool) -> tuple[Rule, ...]:
    """Rules of the language model, by the family its config names."""
    language = config["llm_config"]
    computed = drop(r"language_model\..*\.inv_freq", "computed from the config")
    head = "equals the input embeddings, to which it is tied"
    if language_family(config) != "InternLM2ForCausalLM":
        return (
            computed,
            drop(r"language_model\.lm_head\.weight", head)
            if tied
            else Rule(r"language_model\.(lm_head\.weight)", (r"host:\1",)),
            Rule(r"language_model\.model\.(.*)", (rf"{_TEXT}.\1",)),
        )
    layer = r"language_model\.model\.layers\.(\d+)"
    split = grouped(language["num_attention_heads"], language["num_key_value_heads"])
    return (
        computed,
        drop(r"language_model\.output\.weight", head)
        if tied
        else Rule(r"language_model\.output\.weight", ("host:lm_head.weight",)),
        Rule(r"language_model\.model\.tok_embeddings\.weight", (f"{_TEXT}.embed_tokens.weight",)),
        Rule(r"language_model\.model\.norm\.weight", (f"{_TEXT}.norm.weight",)),
        Rule(
            rf"{layer}\.attention\.wqkv\.{_WB}",
            tuple(rf"{_TEXT}.layers.\1.self_attn.{letter}_proj.\2" for letter in "qkv"),
            split,
        ),
        Rule(rf"{layer}\.attention\.wo\.{_WB}", (rf"{_TEXT}.layers.\1.self_attn.o_proj.\2",)),
        Rule(rf"{layer}\.feed_forward\.w1\.weight", (rf"{_TEXT}.layers.\1.mlp.gate_proj.weight",)),
        Rule(rf"{layer}\.feed_forward\.w2\.weight", (rf"{_TEXT}.layers.\1.mlp.down_proj.weight",)),
        Rule(rf"{layer}\.feed_forward\.w3\.weight", (rf"{_TEXT}.layers.\1.mlp.up_proj.weight",)),
        Rule(rf"{layer}\.attention_norm\.weight", (rf"{_TEXT}.layers.\1.input_layernorm.weight",)),
        Rule(
            rf"{layer}\.ffn_norm\.weight", (rf"{_TEXT}.layers.\1.post_attention_layernorm.weight",)
        ),
    )


def matches(source: Checkpoint) -> bool:
    """A projector and a vision tower under remote-code names."""
    return "mlp1.0.weight" in source and any(n.startswith("vision_model.") for n in source.shapes)


def rules(source: Checkpoint) -> Sequence[Rule]:
    """The whole table for a remote-code checkpoint."""
    return (*VISION, *language_rules(source.config, tied(source)))


def tied(source: Checkpoint) -> bool:
    """Whether the language model has one table for input and output.

    It has if there is no output table, or if the config says so and the two are equal: files of
    tied models may hold both, and files that say "tied" may have been trained apart.
    """
    table, head = embedding_names(source)
    if head not in source:
        return True
    said = source.config["llm_config"].get("tie_word_embeddings", False)
    return bool(said) and torch.equal(source.read(table), source.read(head))


def language_family(config: Mapping[str, Any]) -> str:
    """Class name of the language model.

    Raises:
        CheckpointError: no `llm_config`, or a language that has no native equal here.
    """
    names = (config.get("llm_config") or {}).get("architectures") or ["(none)"]
    if names[0] not in FAMILIES:
        raise CheckpointError(
            f"config.json names the language model {names[0]}; InternVL checkpoints are imported "
            f"with {', '.join(FAMILIES)}"
        )
    return names[0]


def embedding_names(source: Checkpoint) -> tuple[str, str]:
    """Names of the input and output embeddings in the source."""
    internlm = language_family(source.config) == "InternLM2ForCausalLM"
    table, head = ("tok_embeddings", "output") if internlm else ("embed_tokens", "lm_head")
    return f"language_model.model.{table}.weight", f"language_model.{head}.weight"


def native_config(source: Checkpoint) -> Any:
    """The `InternVLConfig` of a remote-code checkpoint.

    Raises:
        CheckpointError: parts of its config.json are missing or of a version that has no equal.
    """
    from transformers import CONFIG_MAPPING, InternVLConfig

    config = source.config
    for part in ("vision_config", "llm_config"):
        if not config.get(part):
            raise CheckpointError(
                f"{source.path}/config.json has no {part!r}; is this an InternVL?"
            )
    if config.get("ps_version", "v2") != "v2":
        raise CheckpointError(
            f"{source.path} shuffles pixels by version {config['ps_version']!r}; the native class "
            "knows v2 (InternVL 2.5 and 3)"
        )
    ids = token_ids(source.path)
    if IMAGE_TOKEN not in ids:
        raise CheckpointError(
            f"no tokenizer file of {source.path} names {IMAGE_TOKEN}; copy the tokenizer beside "
            "the weights"
        )
    family = FAMILIES[language_family(config)]
    language = {k: v for k, v in config["llm_config"].items() if k not in _NOT_MODEL}
    if family == "llama":
        language["attention_bias"] = bool(config["llm_config"].get("bias", False))
    table = embedding_names(source)[0]
    if table not in source:
        raise CheckpointError(f"{source.path} lacks {table}; the language model is not all there")
    one_table = tied(source)
    language.update(vocab_size=source.shapes[table][0], tie_word_embeddings=one_table)
    text = CONFIG_MAPPING[family](**language)
    vision = _vision(config)
    ratio = config.get("downsample_ratio", 0.5)
    side = vision["image_size"][0] // vision["patch_size"][0]
    return InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=ids[IMAGE_TOKEN],
        image_seq_length=int(side * ratio) ** 2,
        downsample_ratio=ratio,
        vision_feature_layer=config.get("select_layer", -1),
        vision_feature_select_strategy="default",
        tie_word_embeddings=one_table,
    )


def expected(native: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the native model of this config, as "host:name"."""
    from transformers import InternVLForConditionalGeneration

    with torch.device("meta"):
        model = InternVLForConditionalGeneration(native)
    names = prefixed("host", model.state_dict())
    if native.tie_word_embeddings:
        names.pop("host:lm_head.weight", None)
    return names


def describe(native: Any) -> Mapping[str, Any]:
    """What an adapter's config.json says of this host."""
    return {
        "host": "internvl",
        "family": native.text_config.model_type,
        "width": native.text_config.hidden_size,
        "frame_wording": visual_prefix(1, 0, True),
    }


def write_description(source: Checkpoint, native: Any, folder: Path) -> None:
    """`config.json` of the native class, and the source's tokenizer files."""
    native.architectures = ["InternVLForConditionalGeneration"]
    native.save_pretrained(str(folder))
    copy_tokenizer(source.path, folder, source.config)


def _vision(config: Mapping[str, Any]) -> dict[str, Any]:
    source = config["vision_config"]
    side, patch = source["image_size"], source["patch_size"]
    return {
        "hidden_size": source["hidden_size"],
        "num_hidden_layers": source["num_hidden_layers"],
        "num_attention_heads": source["num_attention_heads"],
        "intermediate_size": source["intermediate_size"],
        "attention_bias": source.get("qkv_bias", True),
        "use_qk_norm": source.get("qk_normalization", False),
        "hidden_act": source.get("hidden_act", "gelu"),
        "layer_norm_eps": source.get("layer_norm_eps", 1e-6),
        "norm_type": source.get("norm_type", "layer_norm"),
        "image_size": [side, side],
        "patch_size": [patch, patch],
        "use_mean_pooling": True,
    }
