"""A checkpoint that brings its own code, loaded and held."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from sama_plugin.errors import HostError
from sama_plugin.hosts.base import find_adapter
from sama_plugin.hosts.remote_code.load import PREFIX, brings_its_code
from sama_plugin.infer.load import load_host
from sama_plugin.train.config import HostConfig
from sama_plugin.train.host import load_host as load_for_training
from tests.hosts.conformance import grounded, hold
from tests.hosts.internvl_chat.lookalike import TREE, internvl_chat

CODE = TREE / "internvl/model/internvl_chat/__init__.py"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The lookalike, saved with its code beside it."""
    model, tokenizer = internvl_chat()
    model.save_pretrained(tmp_path / "host")
    tokenizer.save_pretrained(tmp_path / "host")
    (tmp_path / "host" / "lookalike_code.py").write_text(CODE.read_text())
    path = tmp_path / "host" / "config.json"
    config = json.loads(path.read_text())
    names = {"AutoConfig": "InternVLChatConfig", "AutoModel": "InternVLChatModel"}
    config["auto_map"] = {auto: f"lookalike_code.{name}" for auto, name in names.items()}
    path.write_text(json.dumps(config))
    modules = transformers.dynamic_module_utils
    monkeypatch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "host"


def test_loaded_with_its_own_code_held_and_called(folder, tmp_path):
    host, tokenizer = load_host(f"{PREFIX}{folder}")
    assert type(host).__module__.startswith("transformers_modules")
    assert find_adapter(host).name == "internvl_chat"
    sama = hold(host, tokenizer)
    assert sama.host(**grounded(sama, tmp_path)).loss.requires_grad
    trained, _ = load_for_training(HostConfig(path=f"{PREFIX}{folder}"))
    assert find_adapter(trained).name == "internvl_chat"


def test_code_never_runs_unasked(folder):
    assert brings_its_code(str(folder)) and not brings_its_code("mini")
    with pytest.raises(HostError, match=f"Read that code and write {PREFIX}"):
        load_host(str(folder))


def test_a_folder_without_its_code_says_what_to_copy(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["auto_map"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(HostError, match="copy the .*py files and the auto_map"):
        load_host(f"{PREFIX}{folder}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("language_model.model.layers.0.mlp.gate_proj.bias", "has no place for: language_model.m"),
        ("vision_model.embeddings.position_ids", None),  # a buffer that older versions saved
        ("language_model.lm_head.weight", "lacks 1 tensor"),
    ],
)
def test_its_tensors_are_those_of_the_model(folder, name, words):
    file = folder / "model.safetensors"
    state = load_file(file)
    if name in state:
        del state[name]
    else:
        state[name] = torch.zeros(4)
    save_file(state, file, metadata={"format": "pt"})
    if words is None:
        load_host(f"{PREFIX}{folder}")
        return
    with pytest.raises(HostError, match=words):
        load_host(f"{PREFIX}{folder}")
