"""Every file under configs/ fits what reads it; the folder says what that is."""

from __future__ import annotations

import json

import pytest

from sama_plugin.eval.published import Published
from sama_plugin.model.config import SamaConfig
from sama_plugin.settings import from_dict, load_yaml, to_dict
from sama_plugin.train.config import TrainConfig
from tests.architecture.commands import OURS, REPOSITORY

CONFIGS = REPOSITORY / "configs"
SCHEMAS = {".": SamaConfig, "train": TrainConfig, "eval": Published}
"""Folder below configs/ to the dataclass of its files."""
YAML = sorted(CONFIGS.rglob("*.yaml"))
JSON = sorted(CONFIGS.rglob("*.json"))


def name(path):
    return str(path.relative_to(CONFIGS))


def test_there_are_configs_of_every_kind():
    assert {str(path.parent.relative_to(CONFIGS)) for path in YAML} == set(SCHEMAS)
    assert {path.parent.name for path in JSON} == {"deepspeed"}
    others = [path for path in CONFIGS.rglob("*") if path.is_file() and path not in [*YAML, *JSON]]
    assert {path.suffix for path in others} <= {".md"}


@pytest.mark.parametrize("path", YAML, ids=name)
def test_yaml_builds_its_dataclass(path):
    schema = SCHEMAS[str(path.parent.relative_to(CONFIGS))]
    config, origins = load_yaml(schema, path)
    assert str(path) in origins.values(), "the file sets nothing"
    assert from_dict(schema, to_dict(config)) == config


@pytest.mark.parametrize("path", YAML, ids=name)
def test_yaml_begins_with_what_it_is_and_how_to_read_it(path):
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    header = [first, *(line for line in rest if line.startswith("#"))]
    assert first.startswith("# ")
    assert any(str(path.relative_to(REPOSITORY)) in line for line in header), "no command names it"


@pytest.mark.parametrize("path", YAML, ids=name)
def test_files_that_values_name_exist(path):
    config, _ = load_yaml(SCHEMAS[str(path.parent.relative_to(CONFIGS))], path)
    for value in leaves(to_dict(config)):
        if isinstance(value, str) and OURS.fullmatch(value):
            assert (REPOSITORY / value).is_file(), f"{name(path)} names {value}"


@pytest.mark.parametrize("path", JSON, ids=name)
def test_deepspeed_file_says_the_stage_of_its_name(path):
    values = json.loads(path.read_text(encoding="utf-8"))
    assert f"zero{values['zero_optimization']['stage']}" == path.stem
    assert values["train_micro_batch_size_per_gpu"] == "auto", "the Trainer's value must win"


def leaves(value):
    children = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (dict, list)):
        yield value
        return
    for child in children:
        yield from leaves(child)
