"""`train.packing`: one row a micro-step, the same loss, and hosts that cannot are refused."""

from __future__ import annotations

import pytest

from sama_plugin.errors import HostError
from sama_plugin.train.material import training_material
from sama_plugin.train.run import build_trainer
from tests.model.conftest import outspoken
from tests.train.factories import tiny_run, write_data


def step(config):
    """(first log line, keyword arguments of the host's forward passes) of a run of one step."""
    trainer, seen = build_trainer(config), []
    outspoken(trainer.sama)
    trainer.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    trainer.train()
    return trainer.state.log_history[0], seen


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_packed_step_is_the_padded_step(data, tmp_path, checkpointing):
    options = {"steps": 1, "batch_size": 5, "gradient_checkpointing": checkpointing}
    padded, rows = step(tiny_run(data, tmp_path / "padded", **options))
    packed, row = step(tiny_run(data, tmp_path / "packed", packing=True, **options))
    assert len(rows) == len(row) == 1
    assert rows[0]["input_ids"].shape[0] == 5 and row[0]["input_ids"].shape[0] == 1
    assert row[0]["input_ids"].shape[1] == int(rows[0]["attention_mask"].sum())
    assert row[0]["use_cache"] is False and "attention_mask" not in row[0]
    for key in ("loss_text", "loss_look"):
        assert packed[key] == pytest.approx(padded[key], rel=1e-4) and padded[key] > 0, key
    for key in ("loss", "grad_norm"):  # mask points are random
        assert packed[key] == pytest.approx(padded[key], rel=0.03), key


def test_worker_processes_pack_too(data, tmp_path):
    line, seen = step(tiny_run(data, tmp_path, steps=1, batch_size=3, packing=True, workers=1))
    assert seen[0]["input_ids"].shape[0] == 1 and line["loss"] > 0


def test_a_host_that_cannot_is_refused_before_training(data, tmp_path):
    config = tiny_run(data, tmp_path)
    sama = build_trainer(config).sama
    sama.host.config.text_config._attn_implementation = "their_own"
    with pytest.raises(HostError, match="their_own"):
        training_material(sama, config.data, packing=True)
    assert training_material(sama, config.data)
