"""`sama swap-llm`: the new host speaks as its language model does, sees as the old host did."""

from __future__ import annotations

import json
import runpy
import sys
from typing import Any

import pytest
import torch

from sama_plugin.cli import main
from sama_plugin.data.formats import internvl_meta
from sama_plugin.errors import HostError
from sama_plugin.hosts.internvl.swap import swap_language_model
from sama_plugin.model.adapters import add_lora
from sama_plugin.model.attach import attach
from sama_plugin.model.carry import independent
from sama_plugin.model.checkpoint import load_adapter, read_config, read_modules, save_adapter
from tests.conftest import REPOSITORY
from tests.data.factories import plain_sample, write_clip
from tests.hosts.conformance import disturbed, hold, noise, segmenter
from tests.hosts.test_backbones import TABLE
from tests.hosts.tiny import internvl, text_config
from tests.tiny_tokenizer import tiny_tokenizer

SMALL = {"head_dim": 16, "hidden_size": 64}


def language(family: str = "llama", **changes: Any) -> tuple[Any, Any]:
    """(causal language model, tokenizer) of another width, which has never heard of images."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = tiny_tokenizer()
    size = {"vocab_size": len(tokenizer), **SMALL, "tie_word_embeddings": True}
    text = text_config(family, **{**TABLE[family][0], **size, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**text))
    return model.eval(), tokenizer


def words(tokenizer: Any) -> torch.Tensor:
    return tokenizer("what does the dog do?", return_tensors="pt").input_ids


@pytest.mark.parametrize("family", ["llama", "granite", "phi3"])
def test_text_alone_is_answered_as_by_the_language_model(family):
    model, tokenizer = language(family)
    ids = words(tokenizer)
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
        swapped = swap_language_model(internvl()[0], model, tokenizer)
        found = swapped.model(input_ids=ids).logits
    assert torch.allclose(found[..., : wanted.shape[-1]], wanted, atol=1e-5)
    if family == "granite":
        assert "folded" in " ".join(swapped.notes)
        with torch.no_grad(), hold(swapped.model, swapped.tokenizer).call(None):
            called = swapped.model(input_ids=ids).logits
        assert torch.allclose(called[..., : wanted.shape[-1]], wanted, atol=1e-5)


def test_vision_stays_and_the_projector_starts_again_at_another_width():
    host = internvl()[0]
    tower = {name: value.clone() for name, value in host.model.vision_tower.state_dict().items()}
    swapped = swap_language_model(host, *language())
    for name, value in swapped.model.model.vision_tower.state_dict().items():
        assert torch.equal(value, tower[name]), name
    assert swapped.model.model.multi_modal_projector.linear_2.weight.shape == (64, 64)
    assert any("projector" in part for part in swapped.fresh)
    sama = hold(swapped.model, swapped.tokenizer)
    assert sama.encode_frames(noise(1)).features.shape == (1, 16, 64)
    assert swapped.model.config.image_token_id == sama.image_id


def test_the_same_width_keeps_the_projector():
    host = internvl()[0]
    before = host.model.multi_modal_projector
    swapped = swap_language_model(host, *language(hidden_size=48, head_dim=12))
    assert swapped.model.model.multi_modal_projector is before and not swapped.fresh


@pytest.mark.parametrize(
    ("change", "message"),
    [("template", "no chat template"), ("family", "no LoRA targets"), ("host", "not native")],
)
def test_what_cannot_be_swapped_is_refused(change, message):
    host, (model, tokenizer) = internvl()[0], language()
    if change == "template":
        tokenizer.chat_template = None
    elif change == "family":
        model.config.model_type = "mamba"
    else:
        host = model
    with pytest.raises(HostError, match=message):
        swap_language_model(host, model, tokenizer)


def test_what_depends_on_the_width_is_found_by_trying():
    sama = hold(*internvl())
    kept = set(independent(sama))
    names = set(sama.modules.state_dict())
    assert not any(name.startswith(("input_rows", "output_rows")) for name in kept)
    assert all(name in kept for name in names if name.startswith("mask_decoder"))
    assert any(name.startswith("aggregator") for name in kept)
    assert any(name.startswith("aggregator") for name in names - kept)


def test_the_verb_writes_a_host_and_an_adapter_that_load(tmp_path, capsys):
    from transformers import AutoTokenizer, InternVLForConditionalGeneration

    old = hold(*internvl())
    add_lora(old, old.config.lora)
    adapter = save_adapter(disturbed(old), tmp_path / "sama_adapter")
    host, tokenizer = internvl()
    host.save_pretrained(tmp_path / "host")
    tokenizer.save_pretrained(tmp_path / "host")
    model, own = language("granite")
    model.save_pretrained(tmp_path / "llm")
    own.save_pretrained(tmp_path / "llm")
    out = tmp_path / "out"
    arguments = ["--host", tmp_path / "host", "--llm", tmp_path / "llm", "--out", out]
    arguments += ["--adapter", adapter]
    assert main(["swap-llm", *map(str, arguments)]) == 0
    report = json.loads((out / "swap.json").read_text())
    printed = capsys.readouterr().out
    assert all(line in printed for line in report["fresh"]) and "LoRA" in printed
    again = InternVLForConditionalGeneration.from_pretrained(out).eval()
    tokens = AutoTokenizer.from_pretrained(out)
    ids = words(own)
    with torch.no_grad():
        wanted, found = model(input_ids=ids).logits, again(input_ids=ids).logits
    assert torch.allclose(found[..., : wanted.shape[-1]], wanted, atol=1e-5)
    sama = attach(again, tokens, read_config(out / "sama_adapter"), segmenter=segmenter())
    load_adapter(sama, out / "sama_adapter")
    stored, carried = read_modules(adapter), sama.modules.state_dict()
    kept = independent(sama)
    assert kept and all(torch.equal(stored[name], carried[name]) for name in kept)
    assert main(["swap-llm", *map(str, arguments)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.slow
def test_the_recipe_warms_the_projector_alone(tmp_path, monkeypatch):
    from transformers import InternVLForConditionalGeneration

    swapped = swap_language_model(internvl()[0], *language())
    swapped.model.save_pretrained(tmp_path / "host")
    swapped.tokenizer.save_pretrained(tmp_path / "host")
    samples = [plain_sample(write_clip(tmp_path / "clip.npy"), f"s{i}") for i in range(4)]
    internvl_meta.write(samples, tmp_path / "chat.jsonl", tmp_path)
    entry = internvl_meta.Entry("chat", ".", "chat.jsonl", 1, 4)
    internvl_meta.write_meta([entry], tmp_path / "meta.json")
    options = {"host": tmp_path / "host", "data": tmp_path / "meta.json", "out": tmp_path / "out"}
    options.update(steps=3, batch=2, dtype="float32")
    flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    monkeypatch.setattr(sys, "argv", ["warm_projector.py", *flags])
    runpy.run_path(str(REPOSITORY / "recipes/native/warm_projector.py"), run_name="__main__")
    warmed = InternVLForConditionalGeneration.from_pretrained(tmp_path / "out").state_dict()
    for name, before in swapped.model.state_dict().items():
        moved = not torch.equal(warmed[name], before)
        assert moved == ("multi_modal_projector" in name), name
