"""Loading a trained model for conversations."""

from __future__ import annotations

import pytest
import torch

from sama_plugin.errors import CheckpointError, ConfigError
from sama_plugin.infer.load import find_adapter_folder, fold_lora, load_host, load_sama
from sama_plugin.infer.session import VideoSession
from sama_plugin.miniworld.host import tiny_host
from sama_plugin.model.adapters import add_lora, lora_layers
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import save_adapter
from tests.model.conftest import tiny_config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training output folder with an adapter whose LoRA does something."""
    folder = tmp_path_factory.mktemp("run")
    sama = attach(*tiny_host(seed=0), tiny_config())
    add_lora(sama, sama.config.lora)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, second in lora_layers(sama.host).values():
            second.copy_(torch.randn(second.shape, generator=generator) * 0.2)
    save_adapter(sama, folder / "sama_adapter")
    return folder


def states(sama, clip):
    """States at the [SEG]s of an answer, and its ids."""
    with VideoSession(sama, clip) as session:
        answer = session.ask("what is it?", masks=False, max_new_tokens=16)
        return session.turns[0].seg_states, answer.ids


def test_folded_lora_answers_the_same(run, clip):
    sama = load_sama("tiny", run, "cpu")
    before, ids = states(sama, clip)
    bare, _ = states(attach(*tiny_host(seed=0), tiny_config()), clip)
    after, folded_ids = states(fold_lora(fold_lora(sama)), clip)
    assert folded_ids == ids
    assert torch.allclose(after, before, atol=1e-5)
    assert not torch.allclose(bare, before, atol=1e-2), "the test's LoRA should matter"


def test_an_adapter_is_found_in_its_run(run):
    assert find_adapter_folder("tiny", run) == run / "sama_adapter"
    assert find_adapter_folder("tiny", run / "sama_adapter") == run / "sama_adapter"


def test_a_missing_adapter_says_what_to_pass(tmp_path):
    with pytest.raises(CheckpointError, match="--adapter"):
        find_adapter_folder("tiny")
    with pytest.raises(CheckpointError, match="not a sama_adapter"):
        find_adapter_folder("tiny", tmp_path)
    with pytest.raises(CheckpointError, match="there is no folder .*gone"):
        find_adapter_folder("tiny", tmp_path / "gone")
    with pytest.raises(CheckpointError, match="'minni' .did you mean 'mini'"):
        find_adapter_folder("minni")


def test_an_unknown_model_names_the_packaged_ones(tmp_path):
    with pytest.raises(ConfigError, match="mini, tiny"):
        load_host(str(tmp_path))
