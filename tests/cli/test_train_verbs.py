"""The verbs of this room on real files: train, config show, doctor."""

from __future__ import annotations

import json

import pytest

from sama_plugin import cli
from sama_plugin.patching import checks
from sama_plugin.settings import dump_yaml
from tests.conftest import REPOSITORY
from tests.data.factories import text_sample
from tests.train.factories import tiny_run, write_data


@pytest.fixture
def run_file(tmp_path):
    """A training file on disk."""
    data = write_data(tmp_path / "data", [text_sample()])
    dump_yaml(tiny_run(data, tmp_path / "unused"), tmp_path / "run.yaml")
    return tmp_path / "run.yaml"


def test_train_refuses_its_own_leavings_and_resumes_them(run_file, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["train", str(run_file), "--out", str(out), "train.save_every=1", "train.keep=1"]
    assert cli.main([*command, "train.steps=1"]) == 0
    assert "1 steps, loss" in capsys.readouterr().out
    assert cli.main([*command, "train.steps=2"]) == 2
    assert "continue it with --resume" in capsys.readouterr().err
    assert cli.main([*command, "train.steps=2", "--resume"]) == 0
    assert (out / "sama_adapter" / "config.json").is_file()
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-2"]
    assert cli.main(["config", "show", str(out / "train.yaml")]) == 0
    assert "train.steps" in capsys.readouterr().out


def test_config_show_names_every_origin(run_file, capsys):
    shipped = REPOSITORY / "configs" / "train" / "internvl3_8b.yaml"
    assert cli.main(["config", "show", str(shipped), "train.steps=7"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert rows["train.steps"].split()[1:] == ["7", "command", "line"]
    assert rows["sama.frames.aggregator"].endswith("sama_8b.yaml")
    assert rows["model.dtype"].endswith("internvl3_8b.yaml")
    assert rows["train.weight_decay"].endswith("default")


def test_config_show_knows_plugin_files(capsys):
    assert cli.main(["config", "show", str(REPOSITORY / "configs" / "mini.yaml")]) == 0
    assert "aggregator.kind" in capsys.readouterr().out


def test_doctor_finds_the_host_and_counts(capsys, monkeypatch):
    monkeypatch.setattr(checks, "OPTIONAL", {})
    assert cli.main(["doctor", "--host", "tiny", "--json"]) == 0
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert "adapter internvl" in found["host"]["found"]
    for part, count in {"language model": 14, "vision tower": 0, "projector": 0}.items():
        said = found[f"LoRA {part}"]
        assert said["state"] == "ok" and said["found"].startswith(f"{count} layers match q, k, v")
        assert said["found"].endswith(f"; {count} expected")
    assert {check["state"] for check in found.values()} == {"ok"}


def test_doctor_tells_missing_extras_from_failures(capsys, monkeypatch):
    monkeypatch.setattr(checks, "OPTIONAL", {"no-such-package": ("extra", "nothing")})
    assert cli.main(["doctor", "--host", "tiny"]) == 1
    assert "pip install 'sama_plugin[extra]'" in capsys.readouterr().out
    assert cli.main(["doctor", "--host", "no/such/host"]) == 2
    assert "cannot load the host 'no/such/host'" in capsys.readouterr().out
    monkeypatch.setattr(checks, "REQUIRED", ("no-such-package",))
    assert cli.main(["doctor"]) == 2
