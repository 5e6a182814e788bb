"""Configurations that ship: every YAML of configs/train and every DeepSpeed file builds."""

from __future__ import annotations

import json

import pytest

from sama_plugin.errors import ConfigError
from sama_plugin.settings import from_dict, load_yaml
from sama_plugin.train.arguments import training_arguments
from sama_plugin.train.config import TrainConfig, check_files
from sama_plugin.train.run import train
from tests.conftest import REPOSITORY

CONFIGS = sorted((REPOSITORY / "configs" / "train").glob("*.yaml"))
DEEPSPEED = sorted((REPOSITORY / "configs" / "deepspeed").glob("*.json"))
ZERO3 = str(REPOSITORY / "configs" / "deepspeed" / "zero3.json")
SOURCE = {"format": "sama", "path": "train.jsonl"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_training_file_builds(path, tmp_path):
    config, origins = load_yaml(TrainConfig, path, ["model.dtype=float32", f"train.out={tmp_path}"])
    config.train.deepspeed = None
    assert training_arguments(config).output_dir == str(tmp_path)
    assert origins["train.out"] == "command line"
    assert origins["sama.frames.aggregator"].startswith(str(REPOSITORY / "configs"))


@pytest.mark.parametrize("path", DEEPSPEED, ids=lambda path: path.name)
def test_every_deepspeed_file_leaves_the_optimiser_to_the_trainer(path):
    config = json.loads(path.read_text())
    assert config["zero_optimization"]["stage"] == int(path.stem[-1])
    assert "optimizer" not in config and "scheduler" not in config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": []}, "no source is named"),
        (
            {"data": [SOURCE, {**SOURCE, "weight": 0.5}]},
            "data.1.weight is 0.5, which counts only with train.epoch_samples .None.; set repeat",
        ),
        (
            {"data": [{**SOURCE, "repeat": 2.0}], "train": {"epoch_samples": 9}},
            "data.0.repeat is 2, which counts only without train.epoch_samples .9.; set weight",
        ),
        (
            {"data": [SOURCE], "model": {"quantize": "4bit"}, "sama": {"lora": {"r": 0}}},
            "4bit trains adapters only",
        ),
        (
            {"data": [SOURCE], "train": {"deepspeed": "x.json"}, "sama": {"lora": {"r": 0}}},
            "whole frozen host into every",
        ),
        ({"data": [SOURCE], "train": {"learning_rat": 1}}, "did you mean 'learning_rate'"),
        ({"data": [{**SOURCE, "formt": "x"}]}, "did you mean 'format'"),
        ({}, "no source is named"),
        *(
            ({"data": [SOURCE], "train": {name: value}}, f"train.{name}")
            for name, value in {
                "steps": 0,
                "batch_size": 0,
                "accumulate": -1,
                "learning_rate": float("nan"),
                "warmup": 7.0,
                "epochs": 0.0,
                "seed": -1,
                "epoch_samples": 0,
                "save_every": 0,
                "workers": -1,
            }.items()
        ),
        ({"data": [SOURCE], "sama": {"lora": {"r": -1}}}, "lora.r -1"),
    ],
)
def test_contradictions_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(TrainConfig, values)


def test_what_transformers_refuses_is_a_configuration_error(tmp_path):
    values = {"data": [SOURCE], "train": {"out": str(tmp_path), "schedule": "cosin"}}
    with pytest.raises(ConfigError, match="cosin"):
        training_arguments(from_dict(TrainConfig, values))


@pytest.mark.parametrize(
    ("model", "file", "message"),
    [
        ({}, "no/such.json", "cannot read no/such.json"),
        ({}, __file__, "not a DeepSpeed file"),
        ({"quantize": "4bit"}, ZERO3, "quantised weights cannot be divided over ranks"),
    ],
)
def test_deepspeed_files_are_read_before_anything_is_loaded(model, file, message):
    values = {"data": [SOURCE], "model": model, "train": {"deepspeed": file}}
    with pytest.raises(ConfigError, match=message):
        training_arguments(from_dict(TrainConfig, values))


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("data", [{"format": "sama", "path": "gone.jsonl"}], "data.0.path is gone.jsonl, which"),
        ("model", {"adapter": "no/run"}, "model.adapter is no/run, which does not exist"),
        ("sama", {"seg": {"weights": "sam2.pt"}}, "sama.seg.weights is sam2.pt, which"),
        ("sama", {"start_from": ["q.safetensors"]}, "sama.start_from is q.safetensors, which"),
    ],
)
def test_files_that_a_run_reads_are_missed_before_anything_is_loaded(section, values, message):
    there = {"data": [{**SOURCE, "path": __file__}], "sama": {"seg": {"weights": "random"}}}
    check_files(from_dict(TrainConfig, there))
    missing = from_dict(TrainConfig, {**there, "model": {"path": "no/host"}, section: values})
    with pytest.raises(ConfigError, match=message):
        train(missing)
