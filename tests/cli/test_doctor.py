"""What doctor says about scripts and checkpoints, and the line that run prints."""

from __future__ import annotations

import json
import re
import sys

import pytest
from torch.nn import Linear

from sama_plugin import cli
from sama_plugin.cli import doctor
from sama_plugin.hosts.base import find_adapter
from sama_plugin.miniworld.host import tiny_host
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import save_adapter
from sama_plugin.model.config import LoraSettings
from sama_plugin.train.checks import lora_checks
from tests.conftest import REPOSITORY
from tests.hosts.internvl_chat.lookalike import TREE
from tests.hosts.tiny import TINY
from tests.model.conftest import tiny_config


@pytest.fixture(autouse=True)
def sound_installation(monkeypatch):
    """Only what is asked about is reported."""
    monkeypatch.setattr(doctor, "environment_checks", list)
    yield
    sys.modules.pop("internvl.train.internvl_chat_finetune", None)


def report(capsys, *arguments):
    code = cli.main(["doctor", *map(str, arguments), "--json"])
    return code, {check["name"]: check for check in json.loads(capsys.readouterr().out)}


def test_a_script_of_a_known_family_shows_every_patch(capsys):
    code, found = report(capsys, TREE / "internvl/train/internvl_chat_finetune.py")
    assert code == 1, found  # the lookalike's functions were never read
    assert "bridge internvl_chat" in found["script"]["found"]
    assert found["tree"]["found"].startswith("internvl_chat at")
    build = found["patch internvl_chat.build_datasets"]
    assert build["state"] == "warning" and build["found"].startswith("unverified (code ")
    assert found["patch internvl_chat.trainer"]["state"] == "ok"


def test_any_other_script_says_what_it_needs(capsys):
    code, found = report(capsys, REPOSITORY / "recipes/hf_trainer/finetune.py")
    assert code == 0 and "needs --plugin.data" in found["patch"]["found"]


def test_a_checkpoint_says_what_it_was_trained_for(capsys, tmp_path):
    save_adapter(attach(*tiny_host(), tiny_config()), tmp_path / "sama_adapter")
    code, found = report(capsys, tmp_path)
    assert code == 0 and found["trained for"]["found"].startswith("internvl, qwen2 of width")
    assert "[SEG]" in found["tokens"]["found"] and found["LoRA"]["found"] == "none"
    (tmp_path / "sama_adapter" / "config.json").write_text("{}")
    assert report(capsys, tmp_path)[0] == 2


@pytest.mark.parametrize("name", sorted(TINY))
def test_lora_is_counted_part_by_part(monkeypatch, name):
    model, adapter = held(name)
    language, tower, projector = lora_checks(model, adapter, LoraSettings())
    assert language.found.startswith("14 layers") and language.found.endswith("14 expected")
    assert (tower.state, projector.state) == ("ok", "ok") and tower.found.startswith("0 layers")
    everything = "|".join(
        re.escape(part) for part, module in model.named_modules() if type(module) is Linear
    )
    monkeypatch.setattr(adapter, "lora_pattern", lambda *_: everything)
    found = {check.name: check for check in lora_checks(model, adapter, LoraSettings())}
    assert found["LoRA elsewhere"].found.startswith("1 layers")  # lm_head
    assert found["LoRA language model"].found.startswith("14 layers")
    for part in ("LoRA vision tower", "LoRA projector"):
        assert found[part].state == "error" and found[part].found.endswith("; 0 expected")
        assert not found[part].found.startswith("0 ")


def held(name):
    model, _ = TINY[name].build()
    return model, find_adapter(model)


@pytest.mark.parametrize(
    ("given", "message"),
    [("no/such/script.py", "no such script"), ("no/such/host", "no/such/host")],
)
def test_what_is_not_there_is_an_error(capsys, given, message):
    code, found = report(capsys, given)
    assert code == 2 and any(message in check["found"] for check in found.values())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["s.py", "--plugin", "sama"], "python -m sama_plugin s.py --plugin sama"),
        (
            ["--processes", "4", "s.py", "--lr", "1"],
            "torchrun --nproc_per_node 4 -m sama_plugin s.py --lr 1",
        ),
    ],
)
def test_run_prints_its_line(capsys, arguments, line):
    assert cli.main(["run", "--print", *arguments]) == 0
    assert capsys.readouterr().out == f"sama: {line}\n"
