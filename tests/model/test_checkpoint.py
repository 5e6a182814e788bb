"""`sama_adapter/`: save, load, equal; and every reason to refuse."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from sama_plugin.errors import CheckpointError
from sama_plugin.model.adapters import add_lora, matched_layers
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import half_precision, load_adapter, read_config, save_adapter
from sama_plugin.model.config import LoraSettings
from sama_plugin.model.generate import teacher_forced
from tests.model.conftest import tiny_config


@pytest.fixture
def trained(sama):
    """An attached host whose plugin and LoRA weights all differ from a fresh one's."""
    add_lora(sama, sama.config.lora)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in sama.host.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return sama


def states(sama):
    ids = sama.tokenizer("what is it?").input_ids + [
        sama.ids.seg,
        sama.ids.phrase_open,
        sama.ids.seg,
    ]
    return teacher_forced(sama, ids, None)[0]


def fresh():
    from sama_plugin.miniworld.host import tiny_host

    return tiny_host(seed=0)


def test_save_load_equal(trained, tmp_path):
    folder = save_adapter(trained, tmp_path / "sama_adapter", peft_model=None)
    other = attach(*fresh(), read_config(folder))
    model = load_adapter(other, folder)
    assert torch.equal(states(other), states(trained))
    assert hasattr(model, "peft_config")
    for name, weight in trained.modules.state_dict().items():
        assert torch.equal(other.modules.state_dict()[name], weight), name


def test_peft_files_lie_beside_and_hold_no_embeddings(tiny, tmp_path):
    from safetensors.torch import load_file

    sama = attach(*tiny, tiny_config())
    model = add_lora(sama, sama.config.lora)
    save_adapter(sama, tmp_path / "sama_adapter", peft_model=model)
    keys = load_file(tmp_path / "adapter_model.safetensors")
    assert keys and all("lora_" in key for key in keys)


def test_half_precision_copy_loads(trained, tmp_path):
    folder = save_adapter(trained, tmp_path / "sama_adapter")
    small = half_precision(folder, tmp_path / "small")
    assert (small / "modules.safetensors").stat().st_size < 0.6 * (
        folder / "modules.safetensors"
    ).stat().st_size
    other = attach(*fresh(), read_config(small))
    load_adapter(other, small)
    assert torch.allclose(states(other), states(trained), atol=2e-2)


def edited(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 4096}, "width 4096; this host has 48"),
        ({"family": "llama"}, "family 'llama'; this host has 'qwen2'"),
        ({"tokens": ["[SEG]"]}, "tokens"),
        ({"segmenter": "sam2.1_hiera_large"}, "segmenter"),
        ({"format": 99}, "format 99"),
    ],
)
def test_misfits_are_refused_and_change_nothing(trained, tmp_path, changes, message):
    folder = save_adapter(trained, tmp_path / "sama_adapter")
    edited(folder, **changes)
    other = attach(*fresh(), tiny_config())
    before = {name: value.clone() for name, value in other.host.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_adapter(other, folder)
    after = other.host.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_other_sizes_are_refused(trained, tmp_path):
    folder = save_adapter(trained, tmp_path / "sama_adapter")
    config = tiny_config()
    config = dataclasses.replace(config, region=dataclasses.replace(config.region, shape_hidden=8))
    with pytest.raises(CheckpointError, match="does not fit the attached modules: region"):
        load_adapter(attach(*fresh(), config), folder)


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_files_are_named(trained, tmp_path, damage):
    folder = save_adapter(trained, tmp_path / "sama_adapter")
    path = folder / "modules.safetensors"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="modules.safetensors is missing or damaged"):
        load_adapter(attach(*fresh(), tiny_config()), folder)


def test_not_a_folder(tmp_path):
    with pytest.raises(CheckpointError, match="is not a sama_adapter folder"):
        read_config(tmp_path)


def test_interrupted_save_keeps_the_old_one(trained, tmp_path, monkeypatch):
    folder = save_adapter(trained, tmp_path / "sama_adapter")
    before = (folder / "modules.safetensors").read_bytes()

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("sama_plugin.model.checkpoint._describe", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_adapter(trained, folder)
    assert (folder / "modules.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["sama_adapter"]


def test_lora_matches_the_language_model_only(sama):
    names = matched_layers(sama, LoraSettings())
    assert len(names) == 7 * 2
    assert all(".language_model.layers." in name for name in names)
