"""Two gloo ranks, one with regions and masks, the other with text only: all engines go on, alike.

DDP is in the default suite. ZeRO-1, 2 and 3 must give its losses and its adapter; ZeRO-3 with every
parameter partitioned, however small.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from sama_plugin.train import saving
from tests.conftest import REPOSITORY
from tests.train.factories import history, write_data

RANKS = REPOSITORY / "tests" / "train" / "ranks.py"


def run_two_ranks(out, data, zero="", layout=""):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [*command, str(RANKS), str(out), str(data), str(zero), layout],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return history(out)[:2], load_adapter_files(out)


def load_adapter_files(out):
    folder = out / "sama_adapter"
    return {**load_file(folder / "modules.safetensors"), **load_file(folder / "lora.safetensors")}


@pytest.fixture(scope="module")
def ddp(tmp_path_factory):
    """(folder, data, log, adapter) of the plain run that the others are compared with."""
    folder = tmp_path_factory.mktemp("ddp")
    data = write_data(folder / "data")
    return (folder, data, *run_two_ranks(folder / "out", data))


def test_ddp_goes_on_when_one_rank_has_only_text(ddp):
    folder, _, log, adapter = ddp
    assert [line["step"] for line in log] == [1, 2]
    assert all(
        0 < line["loss_mask_bce"] < 1 for line in log
    )  # half of one rank's, zero on the other
    assert all(torch.isfinite(tensor).all() for tensor in adapter.values())
    assert [path.name for path in saving.checkpoints(folder / "out")] == [
        "checkpoint-2",
        "checkpoint-3",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_trains_what_ddp_trains(ddp, tmp_path, stage):
    _, data, *expected = ddp
    check_same(run_two_ranks(tmp_path / "out", data, zero_file(tmp_path, stage)), expected)


@pytest.fixture(scope="module")
def packed_ddp(tmp_path_factory):
    """(data, log, adapter) of a run whose ranks pack a grounded and a plain sample into a row."""
    folder = tmp_path_factory.mktemp("packed")
    data = write_data(folder / "data")
    return (data, *run_two_ranks(folder / "out", data, layout="packed"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_packed_zero_trains_what_packed_ddp_trains(packed_ddp, tmp_path, stage):
    data, *expected = packed_ddp
    file = zero_file(tmp_path, stage)
    check_same(run_two_ranks(tmp_path / "out", data, file, layout="packed"), expected)


def zero_file(folder, stage):
    """Our DeepSpeed file of a stage, with every parameter partitioned, however small."""
    pytest.importorskip("deepspeed")
    config = json.loads((REPOSITORY / f"configs/deepspeed/zero{stage}.json").read_text())
    if stage == 3:
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    (folder / "zero.json").write_text(json.dumps(config))
    return folder / "zero.json"


def check_same(run, expected):
    (log, adapter), (expected_log, expected_adapter) = run, expected
    assert len(log) == len(expected_log) == 2
    for line, wanted in zip(log, expected_log):
        for key in ("loss", "loss_text", "loss_mask_bce", "grad_norm"):
            assert line[key] == pytest.approx(wanted[key], rel=1e-4), key
    assert adapter.keys() == expected_adapter.keys()
    for name, tensor in expected_adapter.items():
        assert adapter[name].shape == tensor.shape
        # Adam's first steps magnify the last bits of a gradient
        assert (adapter[name] - tensor).abs().mean() < 1e-5, name


@pytest.mark.slow
def test_packed_ranks_train_what_padded_ones_do(packed_ddp, tmp_path):
    data, packed, other = packed_ddp
    padded, adapter = run_two_ranks(tmp_path / "padded", data, layout="padded")
    assert packed[0]["loss_text"] == pytest.approx(padded[0]["loss_text"], rel=1e-4)
    for key in ("loss", "grad_norm"):  # mask points are random
        assert packed[0][key] == pytest.approx(padded[0][key], rel=0.05), key
    assert adapter.keys() == other.keys()
    assert all(torch.isfinite(tensor).all() for tensor in other.values())
