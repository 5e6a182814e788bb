"""What doctor says about scripts and checkpoints, and the line that run prints."""

from __future__ import annotations

import json
import re
import shutil
import sys

import pytest
from safetensors.torch import load_file, save_file
from torch.nn import Linear

from sama_plugin import cli
from sama_plugin.cli import doctor
from sama_plugin.hosts.base import find_adapter
from sama_plugin.miniworld.host import tiny_host
from sama_plugin.model.adapters import add_lora
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import save_adapter
from sama_plugin.model.config import LoraSettings
from sama_plugin.patching import checks
from sama_plugin.train.checks import lora_checks
from tests.conftest import REPOSITORY
from tests.hosts.internvl_chat.lookalike import TREE
from tests.hosts.tiny import TINY
from tests.model.conftest import tiny_config

SCRIPT = "internvl.train.internvl_chat_finetune"


@pytest.fixture(autouse=True)
def sound_installation(monkeypatch):
    """Only what is asked about is reported."""
    monkeypatch.setattr(doctor, "environment_checks", list)
    yield
    sys.modules.pop(SCRIPT, None)


@pytest.fixture
def checkpoint(tmp_path):
    """A run's folder, as training leaves it."""
    model, tokenizer = tiny_host()
    sama = attach(model, tokenizer, tiny_config())
    peft_model = add_lora(sama, LoraSettings(r=2, alpha=4))
    save_adapter(sama, tmp_path / "run" / "sama_adapter", peft_model=peft_model)
    return tmp_path / "run"


def report(capsys, *arguments):
    capsys.readouterr()  # what a test printed before
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


def test_a_script_is_found_by_its_dotted_name(capsys, monkeypatch):
    monkeypatch.chdir(TREE)
    code, found = report(capsys, SCRIPT)
    assert code == 1 and "bridge internvl_chat" in found["script"]["found"]


@pytest.fixture
def another_tree(tmp_path, monkeypatch):
    """A copy of the tree, in a process that seems to know no other."""
    shutil.copytree(TREE / "internvl", tmp_path / "internvl")
    for name in [name for name in sys.modules if name.split(".")[0] == "internvl"]:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "internvl"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("first_line", "code", "check", "said"),
    [
        ("print('hello from the script')", 1, "tree", "internvl_chat at"),
        ("raise RuntimeError('no GPU')", 2, "import", "cannot be imported: RuntimeError: no GPU"),
        ("this is no Python", 2, "script", "is no Python source: invalid syntax"),
    ],
)
def test_a_script_may_print_or_fail(capsys, another_tree, first_line, code, check, said):
    script = another_tree / "internvl" / "train" / "internvl_chat_finetune.py"
    script.write_text(f"from __future__ import annotations\n{first_line}\n{script.read_text()}")
    found_code, found = report(capsys, script)
    assert found_code == code and said in found[check]["found"]


def test_a_checkpoint_says_what_it_was_trained_for(capsys, checkpoint):
    code, found = report(capsys, checkpoint)
    assert code == 0 and found["trained for"]["found"].startswith("internvl, qwen2 of width")
    assert "[SEG]" in found["tokens"]["found"] and found["LoRA"]["found"].endswith(": 14 layers")
    assert report(capsys, checkpoint / "sama_adapter")[1] == found
    code, found = report(capsys, checkpoint, "--host", "tiny")
    assert code == 0 and found["fits"]["found"].endswith("loads on tiny")
    code, found = report(capsys, checkpoint, "--host", "mini")
    assert code == 2 and "trained with width 48; this host has 192" in found["fits"]["found"]


def without(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def unpaired(path):
    tensors = load_file(path)
    tensors.pop("layers.1.up.B")
    save_file(tensors, path)


def listed(path):
    path.write_text("[]")


def bare(path):
    path.write_text('{"format": 1}')


def other_tokens(path):
    path.write_text(path.read_text().replace("[SEG]", "[SEGMENT]"))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("config.json", without, "is not a sama_adapter folder: cannot read config.json"),
        ("config.json", listed, "config.json is damaged: it holds a list"),
        ("config.json", bare, "config.json is damaged: it has no usable 'host'"),
        ("config.json", other_tokens, "[SEGMENT], <p>"),
        ("modules.safetensors", without, "modules.safetensors is missing or damaged"),
        ("modules.safetensors", cut, "modules.safetensors is missing or damaged"),
        ("lora.safetensors", without, "lora.safetensors is missing or damaged"),
        ("lora.safetensors", unpaired, "half of a pair is missing: layers.1.up"),
    ],
)
def test_a_broken_checkpoint_is_an_error(capsys, checkpoint, name, damage, message):
    damage(checkpoint / "sama_adapter" / name)
    code, found = report(capsys, checkpoint)
    assert code == 2 and any(message in check["found"] for check in found.values()), found


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.safetensors", cut, "cannot load the host"),
        ("config.json", listed, "cannot load the host"),
        ("tokenizer.json", without, "cannot load the host|splits '<IMG_CONTEXT>'"),
    ],
)
def test_a_broken_host_is_an_error(capsys, tmp_path, name, damage, message):
    for part in tiny_host():
        part.save_pretrained(tmp_path)
    damage(tmp_path / name)
    code, found = report(capsys, tmp_path)
    assert code == 2 and re.search(message, found["host"]["found"]), found


def test_a_package_that_cannot_be_imported_is_none(monkeypatch):
    """Its version is in the metadata all the same."""
    monkeypatch.setattr(checks, "REQUIRED", ("pillow", "numpy"))
    monkeypatch.setattr(checks, "OPTIONAL", {"safetensors": ("extra", "nothing")})
    for module in ("PIL", "safetensors"):
        monkeypatch.setitem(sys.modules, module, None)
    found = {check.name: check for check in checks.environment_checks()}
    states = {name: found[name].state for name in ("pillow", "numpy", "safetensors")}
    assert states == {"pillow": "error", "numpy": "ok", "safetensors": "warning"}
    assert "cannot be imported (ModuleNotFoundError" in found["pillow"].found


def test_every_package_that_is_installed_with_the_plugin_is_checked():
    names = set(re.findall(r'"([\w-]+)>=', (REPOSITORY / "setup.py").read_text()))
    checked = {*checks.REQUIRED, *checks.OPTIONAL}
    development = {"pytest", "hypothesis", "ruff", "psutil", "fsspec"}
    assert checked == names - development


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
    [
        ("no/such/script.py", "no such script"),
        ("no/such/host", "'no/such/host' (no such folder)"),
        ("tinny", "(no such folder (did you mean 'tiny'?))"),
    ],
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
