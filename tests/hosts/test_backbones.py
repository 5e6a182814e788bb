"""Text backbones under native InternVL: one row a family, one step, one answer, one round trip.

The tokenizer fills every vocabulary to the last row, so the plugin's ids always lie past the table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch

from sama_plugin.hosts.backbones import BACKBONES, fused_rows, head_of
from sama_plugin.model.adapters import add_lora, lora_layers, matched_layers
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import load_adapter, read_config, save_adapter
from sama_plugin.model.generate import generate
from tests.hosts.conformance import disturbed, grounded, hold, last_states, segmenter, step
from tests.hosts.tiny import internvl

EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 4}

# family -> (changes to the configuration, LoRA layers a decoder layer)
TABLE: dict[str, tuple[dict[str, Any], int]] = {
    "qwen2": ({}, 7),
    "qwen3": ({}, 7),
    "llama": ({}, 7),
    "internlm3": ({}, 7),
    "mistral": ({}, 7),
    "granite": ({"logits_scaling": 8.0, "embedding_multiplier": 12.0}, 7),
    "olmo2": ({}, 7),
    "gemma2": ({"final_logit_softcapping": 30.0, "query_pre_attn_scalar": 12}, 7),
    "gemma3_text": ({"query_pre_attn_scalar": 12}, 7),
    "glm4": ({}, 6),
    "phi3": ({"original_max_position_embeddings": 2048}, 4),
    "phi": ({"partial_rotary_factor": 0.5}, 6),
    "mixtral": (EXPERTS, 4),
    "qwen3_moe": (
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
        4,
    ),
    "gpt_oss": (EXPERTS, 4),
}
QUICK = ("llama", "phi3", "gemma2", "gpt_oss")
FAMILIES = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow, id=name) for name in TABLE
]


def build(family: str, seed: int = 0, **changes: Any) -> tuple[Any, Any]:
    """Native InternVL over a tiny language model of `family`; untied, so that heads differ."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if family not in CONFIG_MAPPING_NAMES:
        pytest.skip(f"this transformers has no {family} (internlm3 came with 5)")
    return internvl(seed, tied=False, family=family, **{**TABLE[family][0], **changes})


def test_every_known_family_is_in_the_table():
    assert set(TABLE) == set(BACKBONES) and len(TABLE) >= 12


def goes_round(made: Callable[[], tuple[Any, Any]], folder: Path) -> None:
    """A host made twice alike trains a step, answers, and its adapter loads on the other one."""
    sama = hold(*made())
    add_lora(sama, sama.config.lora)
    inputs = grounded(sama, folder)
    before = sama.host(**inputs).loss.item()
    trained = [p for p in sama.host.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    grads = step(sama, inputs)
    assert all(torch.isfinite(grad).all() for grad in grads.values())
    optimizer.step()
    torch.manual_seed(0)
    assert sama.host(**inputs).loss.item() != before
    found = generate(sama, sama.tokenizer("what is it?").input_ids, None, max_new_tokens=4)
    assert len(found.ids) == 4
    saved = save_adapter(disturbed(sama), folder / "sama_adapter")
    other = attach(*made(), read_config(saved), segmenter=segmenter())
    load_adapter(other, saved)
    assert torch.equal(last_states(other, inputs), last_states(sama, inputs))


@pytest.mark.parametrize("family", FAMILIES)
def test_trained_one_step_generated_saved_and_loaded(family, tmp_path):
    sama = hold(*build(family))
    table = sama.host.get_output_embeddings().weight.shape[0]
    assert min(sama.ids.in_order()) >= table  # no spare rows
    assert len(matched_layers(sama, sama.config.lora)) == 2 * TABLE[family][1]
    goes_round(lambda: build(family), tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_injected_vectors_have_the_size_of_the_hosts_own_words(family):
    """A new row that is a copy of a word's row must act as that word, however the family scales."""
    sama = hold(*build(family))
    word = sama.tokenizer("w").input_ids[0]
    weight = sama.host.get_input_embeddings().weight
    with torch.no_grad():
        sama.modules.input_rows.weight[0] = weight[word]
        with sama.call(None):
            ours = sama.host(input_ids=torch.tensor([[sama.ids.seg, word]])).logits
            theirs = sama.host(input_ids=torch.tensor([[word, word]])).logits
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_gemma_scales_in_its_embedding_and_granite_later():
    assert hold(*build("gemma3_text")).taps.scale == pytest.approx(48**0.5, rel=1e-3)
    assert hold(*build("granite")).taps.scale == 1.0


@pytest.mark.parametrize(("family", "own"), [("granite", "Granite"), ("gemma2", "Gemma2")])
def test_logits_in_a_call_are_those_of_the_familys_own_head(family, own):
    import transformers

    sama = hold(*build(family))
    causal = getattr(transformers, f"{own}ForCausalLM")(sama.host.config.text_config).eval()
    causal.model.load_state_dict(sama.host.model.language_model.state_dict())
    causal.lm_head.weight = sama.host.lm_head.weight
    ids = sama.tokenizer("what does the dog do?", return_tensors="pt").input_ids
    with torch.no_grad():
        wanted = causal(input_ids=ids).logits
        assert not torch.allclose(sama.host(input_ids=ids).logits, wanted, atol=1e-3)
        with sama.call(None):
            found = sama.host(input_ids=ids).logits
    assert torch.allclose(found[..., : wanted.shape[-1]], wanted, atol=1e-5)
    assert not head_of(sama.host.config.text_config).plain


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_router_loss_is_added_where_the_configuration_asks(family, tmp_path):
    import transformers

    sama = hold(*build(family, output_router_logits=True, router_aux_loss_coef=0.5))
    inputs = grounded(sama, tmp_path)
    sama.host(**inputs)
    own = {"mixtral": "Mixtral", "qwen3_moe": "Qwen3Moe", "gpt_oss": "GptOss"}[family]
    causal = getattr(transformers, f"{own}ForCausalLM")(sama.host.config.text_config).eval()
    causal.model.load_state_dict(sama.host.model.language_model.state_dict())
    seen = {}
    decoder = sama.host.model.language_model
    hook = decoder.register_forward_pre_hook(lambda m, a, k: seen.update(k), with_kwargs=True)
    sama.host(**inputs)
    hook.remove()
    with torch.no_grad():
        wanted = causal(
            inputs_embeds=seen["inputs_embeds"], attention_mask=inputs["attention_mask"]
        ).aux_loss
    assert torch.allclose(sama.last_losses["router"], 0.5 * wanted, rtol=1e-4)
    sama.host.config.text_config.output_router_logits = False
    sama.host(**inputs)
    assert "router" not in sama.last_losses


def test_split_lora_on_a_fused_host_is_exact(tmp_path):
    """Different A for q, k and v: one block-diagonal LoRA of three times the rank."""
    from safetensors.torch import load_file, save_file

    sama = hold(*build("phi3"))
    add_lora(sama, sama.config.lora)
    folder = save_adapter(disturbed(sama), tmp_path / "sama_adapter")
    lora = load_file(folder / "lora.safetensors")
    assert set(key.split(".")[2] for key in lora) == {"q", "k", "v", "o", "gate", "up", "down"}
    generator = torch.Generator().manual_seed(1)
    lora = {key: torch.randn(value.shape, generator=generator) for key, value in lora.items()}
    save_file(lora, folder / "lora.safetensors")
    other = attach(*build("phi3"), read_config(folder), segmenter=segmenter())
    load_adapter(other, folder)
    name = "model.language_model.layers.0.self_attn.qkv_proj"
    layer = other.host.get_submodule(name)
    rows = fused_rows(other.host.config.text_config, ("q", "k", "v"))
    update = layer.get_delta_weight("default")
    scaling = sama.config.lora.alpha / sama.config.lora.r
    for part, index in rows.items():
        wanted = scaling * lora[f"layers.0.{part}.B"] @ lora[f"layers.0.{part}.A"]
        assert torch.allclose(update[index], wanted, atol=1e-5)
    again = save_adapter(other, tmp_path / "again")
    third = attach(*build("phi3"), read_config(again), segmenter=segmenter())
    load_adapter(third, again)
    for one, two in zip(lora_layers(third.host).items(), lora_layers(other.host).items()):
        assert one[0] == two[0] and all(torch.equal(a, b) for a, b in zip(one[1], two[1]))


def test_lora_that_another_program_added_keeps_its_rank_targets_and_scale(tmp_path):
    from peft import LoraConfig, get_peft_model

    def wrapped(alpha: int) -> Any:
        sama = hold(*build("llama"))
        targets = r".*language_model\.layers\.\d+\.self_attn\.[qv]_proj"
        get_peft_model(sama.host, LoraConfig(r=3, lora_alpha=alpha, target_modules=targets))
        sama.mark_trainable()
        return sama

    sama = disturbed(wrapped(alpha=15))  # the configuration says r=2, alpha=4, all targets
    inputs = grounded(sama, tmp_path)
    folder = save_adapter(sama, tmp_path / "sama_adapter")
    settings = read_config(folder).lora
    assert (settings.r, settings.alpha, settings.targets) == (3, 15, ("q", "v"))
    bare = attach(*build("llama"), read_config(folder), segmenter=segmenter())
    load_adapter(bare, folder)
    assert torch.equal(last_states(bare, inputs), last_states(sama, inputs))
    other = wrapped(alpha=6)  # the same layers at another scale: another B, the same update
    load_adapter(other, folder)
    assert torch.allclose(last_states(other, inputs), last_states(sama, inputs), atol=1e-5)


def test_lora_outside_the_language_model_stays_in_pefts_own_files(tmp_path):
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file

    sama = hold(*build("llama"))
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"])  # the vision tower's too
    model = get_peft_model(sama.host, config)
    folder = save_adapter(sama, tmp_path / "sama_adapter", peft_model=model)
    stored = load_file(folder / "lora.safetensors")
    assert set(stored) == {f"layers.{n}.q.{letter}" for n in range(2) for letter in "AB"}
    assert any("vision_tower" in key for key in load_file(tmp_path / "adapter_model.safetensors"))
