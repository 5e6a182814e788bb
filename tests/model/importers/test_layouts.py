"""Published layouts at published sizes, names only: every key of SAMA-1B and 8B finds its place.

The lists are written by hand from the description of the released files, not from our tables.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from sama_plugin.model.importers import sam2, sama
from sama_plugin.model.importers.rules import make_plan
from sama_plugin.segment.sizes import SIZES, build_sam2
from tests.model.importers import synthetic

VISION = 1024
SIZES_OF_LLM = {
    "1B": dict(width=896, ffn=4864, layers=24, heads=14, keys=2, rows=151679),
    "8B": dict(width=4096, ffn=14336, layers=32, heads=32, keys=8, rows=92558),
}


def linear(name: str, out: int, inside: int) -> dict:
    return {f"{name}.weight": (out, inside), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> dict:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def vision(layers: int = 24) -> dict:
    start = "vision_model.embeddings"
    keys = {
        f"{start}.class_embedding": (1, 1, VISION),
        f"{start}.position_embedding": (1, 1025, VISION),
        f"{start}.patch_embedding.weight": (VISION, 3, 14, 14),
        f"{start}.patch_embedding.bias": (VISION,),
    }
    for n in range(layers):
        layer = f"vision_model.encoder.layers.{n}"
        keys |= norm(f"{layer}.norm1", VISION) | norm(f"{layer}.norm2", VISION)
        keys |= linear(f"{layer}.attn.qkv", 3 * VISION, VISION)
        keys |= linear(f"{layer}.attn.proj", VISION, VISION)
        keys |= linear(f"{layer}.mlp.fc1", 4096, VISION) | linear(f"{layer}.mlp.fc2", VISION, 4096)
        keys |= {f"{layer}.ls1": (VISION,), f"{layer}.ls2": (VISION,)}
    return keys


def qwen2(width: int, ffn: int, layers: int, heads: int, keys: int, rows: int) -> dict:
    key_width, model = width // heads * keys, "language_model.model"
    found = {f"{model}.embed_tokens.weight": (rows, width), f"{model}.norm.weight": (width,)}
    found["language_model.lm_head.weight"] = (rows, width)
    for n in range(layers):
        layer = f"{model}.layers.{n}"
        found |= linear(f"{layer}.self_attn.q_proj", width, width)
        found |= linear(f"{layer}.self_attn.k_proj", key_width, width)
        found |= linear(f"{layer}.self_attn.v_proj", key_width, width)
        found[f"{layer}.self_attn.o_proj.weight"] = (width, width)
        found |= {f"{layer}.mlp.{x}_proj.weight": (ffn, width) for x in ("gate", "up")}
        found[f"{layer}.mlp.down_proj.weight"] = (width, ffn)
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"{layer}.{name}.weight"] = (width,)
    return found


def internlm2(width: int, ffn: int, layers: int, heads: int, keys: int, rows: int) -> dict:
    model = "language_model.model"
    found = {f"{model}.tok_embeddings.weight": (rows, width), f"{model}.norm.weight": (width,)}
    found["language_model.output.weight"] = (rows, width)
    for n in range(layers):
        layer = f"{model}.layers.{n}"
        found[f"{layer}.attention.wqkv.weight"] = (width + 2 * width // heads * keys, width)
        found[f"{layer}.attention.wo.weight"] = (width, width)
        found |= {f"{layer}.feed_forward.{x}.weight": (ffn, width) for x in ("w1", "w3")}
        found[f"{layer}.feed_forward.w2.weight"] = (width, ffn)
        found |= {f"{layer}.{x}_norm.weight": (width,) for x in ("attention", "ffn")}
    return found


def qformer(part: str, layers: int, crossed: range, cross: int, text: bool) -> dict:
    start, h = f"{part}_Qformer.bert", 768
    keys = {
        f"{part}_Qformer_query_tokens": (1, 32, h),
        f"{start}.embeddings.position_ids": (1, 512),
    }
    keys |= norm(f"{start}.embeddings.LayerNorm", h)
    for n in range(layers):
        layer = f"{start}.encoder.layer.{n}"
        kinds = [("attention", h)] + [("crossattention", cross)] * (n in crossed)
        for kind, inside in kinds:
            keys |= linear(f"{layer}.{kind}.self.query", h, h)
            keys |= linear(f"{layer}.{kind}.self.key", h, inside)
            keys |= linear(f"{layer}.{kind}.self.value", h, inside)
            keys |= linear(f"{layer}.{kind}.output.dense", h, h)
            keys |= norm(f"{layer}.{kind}.output.LayerNorm", h)
        for half in ["_query"] + [""] * text:
            keys |= linear(f"{layer}.intermediate{half}.dense", 3072, h)
            keys |= linear(f"{layer}.output{half}.dense", h, 3072)
            keys |= norm(f"{layer}.output{half}.LayerNorm", h)
    return keys


def aggregator(width: int) -> dict:
    keys = qformer("spatial", 12, range(0, 12, 2), 1408, text=False)
    keys |= qformer("temporal", 2, range(2), 768, text=True)
    keys |= norm("spatial_Qformer_ln", 1408) | linear("vlm2spatial_Qformer_proj", 1408, width)
    words = "temporal_Qformer.bert.embeddings"
    keys[f"{words}.word_embeddings.weight"] = (30530, 768)
    keys[f"{words}.position_embeddings.weight"] = (512, 768)
    for end, out in (("", width), ("_st", 768)):
        keys |= linear(f"Qformer_mask_pooling_proj{end}", out, width)
        for number, shape in enumerate(((1024, 12544), (1024, 1024), (out, 1024))):
            keys |= linear(f"Qformer_mask_proj{end}.layers.{number}", *shape)
    keys |= linear("Qformer_temp_attn_q", width, width)
    keys |= linear("Qformer_temp_attn_k", width, 768) | linear("Qformer_temp_attn_v", width, 768)
    keys |= linear("Qformer_temp_proj", width, width) | linear("Qformer_final_proj", width, width)
    return keys


def segmenter(name: str, start: str = "") -> dict:
    real = torch.linspace  # Hiera reads numbers off one

    def on_cpu(*args, **kwargs):
        return real(*args, **{**kwargs, "device": "cpu"})

    with torch.device("meta"), mock.patch.object(torch, "linspace", on_cpu):
        state = build_sam2(SIZES[name]).state_dict()
    return {start + n.replace(".gamma", ".g_weight"): tuple(v.shape) for n, v in state.items()}


@pytest.mark.parametrize("size, language", [("1B", qwen2), ("8B", internlm2)])
def test_every_key_of_a_released_sama_finds_its_place(tmp_path, size, language):
    given = SIZES_OF_LLM[size]
    width = given["width"]
    shapes = {
        **vision(),
        **norm("mlp1.0", 4096),
        **linear("mlp1.1", width, 4096),
        **linear("mlp1.3", width, width),
        **language(**given),
        **linear("text_hidden_fcs.0", width, width),
        **linear("text_hidden_fcs.2", 256, width),
        **segmenter("sam2_hiera_large", "grounding_encoder.sam2_model."),
        **aggregator(width),
    }
    names = {"1B": "Qwen2ForCausalLM", "8B": "InternLM2ForCausalLM"}
    config = {
        "vision_config": {
            "hidden_size": VISION,
            "image_size": 448,
            "patch_size": 14,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
        },
        "llm_config": {
            "architectures": [names[size]],
            "hidden_size": width,
            "intermediate_size": given["ffn"],
            "num_hidden_layers": given["layers"],
            "num_attention_heads": given["heads"],
            "num_key_value_heads": given["keys"],
            "rope_theta": 1000000.0,
            "bias": False,
        },
    }
    (tmp_path / "added_tokens.json").write_text(json.dumps(synthetic.TOKENS))

    class Source(SimpleNamespace):
        def __contains__(self, name):
            return name in self.shapes

    source = Source(path=tmp_path, config=config, shapes=shapes)
    settings = sama.config_of(source)
    expected = sama.expected(source, settings)
    filled = sama.filled(source, expected)
    plan = make_plan(source, sama.rules(source, expected), expected, filled)
    assert settings.seg.segmenter == "sam2_hiera_large"
    assert set(plan.moves) | set(plan.dropped) == set(shapes)
    ids = {f"{part}_Qformer.bert.embeddings.position_ids" for part in ("spatial", "temporal")}
    last = "temporal_Qformer.bert.encoder.layer.1."
    unread = {n for n in shapes if n.startswith((last + "intermediate.", last + "output."))}
    assert set(plan.dropped) == ids | unread
    assert set(plan.filled) == {"adapter:region.absent", "adapter:region.absent_rows"}


@pytest.mark.parametrize("name", [name for name in SIZES if name.startswith("sam2")])
def test_a_sam2_says_itself_which_it_is(name):
    shapes = segmenter(name)
    shapes = {n.replace(".g_weight", ".gamma"): shape for n, shape in shapes.items()}
    sizes = sam2.sizes_of(shapes)
    assert sam2.name_of(sizes, name) == name
    assert sam2.expected(sizes) == {f"segmenter:{n}": shape for n, shape in shapes.items()}


def test_instructblips_qformer_computes_what_transformers_does(tmp_path):
    from safetensors.torch import load_file
    from transformers import InstructBlipQFormerConfig, InstructBlipQFormerModel

    from sama_plugin.model.importers.bring import bring
    from sama_plugin.nn.spatial import SpatialQFormer

    torch.manual_seed(0)
    config = InstructBlipQFormerConfig(
        vocab_size=20,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=1,
        intermediate_size=96,
        encoder_hidden_size=24,
        cross_attention_frequency=2,
        max_position_embeddings=16,
    )
    theirs = InstructBlipQFormerModel(config).eval()
    queries, layer_norm = torch.randn(1, 4, 64), torch.nn.LayerNorm(24)
    torch.nn.init.normal_(layer_norm.weight)
    state = {"query_tokens": queries, "ln_vision.weight": layer_norm.weight.detach()}
    state["ln_vision.bias"] = layer_norm.bias.detach()
    for name, value in theirs.state_dict().items():
        for one, other in (
            ("attention.attention.", "attention.self."),
            ("embeddings.layernorm.", "embeddings.LayerNorm."),
        ):
            name = name.replace(one, other)
        state[f"Qformer.bert.{name}"] = value
    torch.save({"model": state}, tmp_path / "blip.pth")
    bring(tmp_path / "blip.pth", tmp_path / "to")

    ours = SpatialQFormer(24, 24, 64, 1, 96, 3, 2, 4, None).eval()
    start = "aggregator.spatial."
    weights = load_file(tmp_path / "to/qformer.safetensors")
    weights = {name[len(start) :]: value for name, value in weights.items()}
    missing = ours.load_state_dict(weights, strict=False).missing_keys
    assert set(missing) == {"project.weight", "project.bias"}
    frames = torch.randn(2, 6, 24)
    with torch.no_grad():
        ours.project.weight.copy_(torch.eye(24))
        ours.project.bias.zero_()
        found = ours(frames, torch.zeros(2))
        expected = theirs(
            input_ids=None,
            query_embeds=queries.expand(2, -1, -1),
            encoder_hidden_states=layer_norm(frames),
        ).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
