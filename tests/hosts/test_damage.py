"""A host is loaded with every tensor of its checkpoint: no more, no less."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from sama_plugin.errors import HostError
from sama_plugin.hosts.damage import load_whole
from tests.hosts import tiny


@pytest.fixture
def host(tmp_path):
    """A folder with a tied host, and its tensors."""
    model, _ = tiny.internvl()
    model.save_pretrained(tmp_path)
    return tmp_path, load_file(tmp_path / "model.safetensors")


def write(folder, state):
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "name",
    [
        "language_model.model.layers.0.self_attn.rotary_emb.inv_freq",
        "vision_tower.embeddings.position_ids",
        "language_model.lm_head.weight",  # the head is the embedding table
    ],
)
def test_what_older_versions_saved_is_let_pass(host, name):
    folder, state = host
    table = state["language_model.model.embed_tokens.weight"]
    write(folder, {**state, name: table.clone()})
    assert torch.equal(load_whole(str(folder)).get_input_embeddings().weight, table)


@pytest.mark.parametrize(
    "name",
    [
        "language_model.model.layers.2.mlp.up_proj.weight",  # there are two layers
        "language_model.model.layers.0.mlp.up_proj.bias",
        "v_head.summary.weight",
    ],
)
def test_tensors_without_a_place_are_refused_by_name(host, name):
    folder, state = host
    write(folder, {**state, name: torch.zeros(3)})
    own = re.escape(name.split(".", 2)[-1])
    with pytest.raises(HostError, match=rf"1 tensor.s. .*no place for: .*{own}\. .*config.json"):
        load_whole(str(folder))


def test_a_tensor_that_is_not_there_is_named(host):
    folder, state = host
    del state["language_model.model.norm.weight"]
    write(folder, state)
    with pytest.raises(HostError, match="lacks 1 tensor.*language_model.norm.weight"):
        load_whole(str(folder))
