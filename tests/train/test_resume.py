"""Checkpoints: resumed runs continue bit for bit, and an interrupted save loses nothing."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import TrainerCallback

from sama_plugin.errors import ConfigError
from sama_plugin.train import saving
from sama_plugin.train.run import train
from sama_plugin.train.trainer import SamaTrainer, SamaTraining
from tests.data.factories import text_sample
from tests.train.factories import history, tiny_run, write_data

STEPS, HALF = 6, 3
"""An epoch has five steps: the first half ends inside it, the second goes past its end."""


class StopAt(TrainerCallback):
    """Ends training at a step, as a machine that goes away would."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


@pytest.fixture
def seen(monkeypatch):
    """Sample ids of every micro-step that reached the model."""
    order = []
    compute_loss = SamaTraining.compute_loss

    def recording(self, model, inputs, *args, **kwargs):
        order.append(tuple(inputs["sama"].sample_ids))
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SamaTraining, "compute_loss", recording)
    return order


def adapter(out):
    folder = out / "sama_adapter"
    return {**load_file(folder / "modules.safetensors"), **load_file(folder / "lora.safetensors")}


def test_resumed_run_is_bit_equal_to_a_straight_one(tmp_path, seen):
    data = write_data(tmp_path / "data")
    settings = {"steps": STEPS, "save_every": HALF, "lora_dropout": 0.2, "mask_decoder": True}

    train(tiny_run(data, tmp_path / "straight", **settings))
    straight = list(seen)
    seen.clear()
    train(tiny_run(data, tmp_path / "halves", **settings), callbacks=[StopAt(HALF)])
    result = train(tiny_run(data, tmp_path / "halves", **settings), resume=True)

    assert result.steps == STEPS
    assert seen == straight and len(seen) == STEPS
    expected, found = adapter(tmp_path / "straight"), adapter(tmp_path / "halves")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    parts = ("loss", "loss_text", "loss_mask_bce", "grad_norm", "learning_rate")
    assert [[line[part] for part in parts] for line in history(tmp_path / "halves")] == [
        [line[part] for part in parts] for line in history(tmp_path / "straight")
    ]


def test_a_run_resumed_with_other_steps_reads_on(tmp_path, seen):
    data = write_data(tmp_path / "data")
    train(tiny_run(data, tmp_path / "straight", steps=9))
    straight = list(seen)
    seen.clear()
    train(tiny_run(data, tmp_path / "other", steps=3, save_every=3))
    train(tiny_run(data, tmp_path / "other", steps=6, accumulate=2), resume=True)
    assert seen == straight and len(seen) == 3 + 3 * 2, "ids, an epoch has five"


def test_checkpoint_is_small_and_holds_no_frozen_weights(tmp_path):
    out = tmp_path / "out"
    train(
        tiny_run(
            write_data(tmp_path / "data", [text_sample()]),
            out,
            steps=1,
            save_every=1,
            mask_decoder=True,
        )
    )
    checkpoint = saving.newest_checkpoint(out)
    names = set()
    for file in checkpoint.rglob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            names |= set(tensors.keys())
    assert not [name for name in names if "vision_tower" in name or "embed_tokens" in name]
    assert not [name for name in names if "image_encoder" in name or "memory_attention" in name]
    files = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*")}
    assert {"sama_adapter/config.json", "adapter_model.safetensors", "trainer_state.json"} <= files
    assert not {"model.safetensors", "pytorch_model.bin"} & files


@pytest.mark.parametrize("broken", ["_save", "_save_rng_state"])
def test_a_failure_while_saving_leaves_the_older_checkpoint(tmp_path, monkeypatch, broken):
    out = tmp_path / "out"
    config = tiny_run(write_data(tmp_path / "data", [text_sample()]), out, save_every=1)
    original = getattr(SamaTrainer, broken)

    def failing(self, *args, **kwargs):
        if self.state.global_step == 2:
            raise RuntimeError("the disk is full")
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(SamaTrainer, broken, failing)
        with pytest.raises(RuntimeError, match="disk is full"):
            train(config)
    assert [path.name for path in saving.checkpoints(out)] == ["checkpoint-1"]
    assert not (out / saving.STAGE).exists()
    assert train(config, resume=True).steps == 2


def test_what_a_killed_run_left_is_no_checkpoint(tmp_path):
    left = tmp_path / saving.STAGE / "checkpoint-9" / "sama_adapter"
    left.mkdir(parents=True)
    (tmp_path / "checkpoint-7").mkdir()
    assert saving.newest_checkpoint(tmp_path) is None
    assert list(saving.start_stage(tmp_path).iterdir()) == []


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    for step in (2, 10, 9, 1):
        (tmp_path / f"checkpoint-{step}" / "sama_adapter").mkdir(parents=True)
    saving.prune(tmp_path, keep=2, spare=str(tmp_path / "checkpoint-1"))
    assert [path.name for path in saving.checkpoints(tmp_path)] == [
        "checkpoint-1",
        "checkpoint-9",
        "checkpoint-10",
    ]


def test_a_run_killed_while_it_removes_a_checkpoint_leaves_no_half_of_it(tmp_path, monkeypatch):
    for step in (1, 2):
        (tmp_path / f"checkpoint-{step}" / "sama_adapter").mkdir(parents=True)
    monkeypatch.setattr(saving.shutil, "rmtree", lambda path, **options: None)  # killed before
    saving.prune(tmp_path, keep=1)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]


def test_another_runs_checkpoints_are_not_overwritten(tmp_path):
    (tmp_path / "out" / "checkpoint-4" / "sama_adapter").mkdir(parents=True)
    (tmp_path / "data.jsonl").touch()
    config = tiny_run(tmp_path / "data.jsonl", tmp_path / "out")
    with pytest.raises(ConfigError, match="checkpoint-4 of an earlier run; continue it with --re"):
        train(config)
