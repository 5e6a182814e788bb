"""An unmodified Trainer script: alone it trains plain chat, launched it teaches two senses."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch.optim import optimizer as torch_optimizer
from transformers import Trainer

from sama_plugin.bridges.hf_trainer import install
from sama_plugin.cli import reporting
from sama_plugin.errors import PluginError
from sama_plugin.miniworld.host import tiny_host
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import load_adapter, read_config
from sama_plugin.patching.launch import launch
from sama_plugin.settings import dump_yaml
from tests.conftest import REPOSITORY
from tests.model.conftest import tiny_config
from tests.train.factories import write_data

SCRIPT = REPOSITORY / "recipes" / "hf_trainer" / "finetune.py"
CHAT = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Host folder, chats, our data and plugin config on disk."""
    folder = tmp_path_factory.mktemp("files")
    model, tokenizer = tiny_host()
    model.save_pretrained(folder / "host")
    tokenizer.save_pretrained(folder / "host")
    (folder / "chats.jsonl").write_text(json.dumps(CHAT) + "\n")
    config = tiny_config()
    config.seg.train_mask_decoder = False
    dump_yaml(config, folder / "plugin.yaml")
    write_data(folder / "data")
    return folder


@pytest.fixture(autouse=True)
def forget_the_script():
    """Scripts are imported under their own name; a test wants a fresh one."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name in ("finetune", "own_script"):
            del sys.modules[name]


def script_flags(files, out):
    flags = {
        "model": files / "host",
        "conversations": files / "chats.jsonl",
        "output_dir": out,
        "max_steps": 2,
        "per_device_train_batch_size": 1,
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return [text for name, value in flags.items() for text in (f"--{name}", str(value))]


def plugin_flags(files):
    return [
        *("--plugin", "sama"),
        *("--plugin.data", str(files / "data" / "train.jsonl")),
        *("--plugin.config", str(files / "plugin.yaml")),
        *("--plugin.set", "lora.r=4"),
    ]


def test_the_script_learns_with_the_plugin_and_trainer_is_put_back(files, tmp_path, capsys):
    constructor, out = Trainer.__init__, tmp_path / "out"
    launch([str(SCRIPT), *script_flags(files, out), *plugin_flags(files)])
    assert Trainer.__init__ is constructor

    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sama: ")]
    for said in ("Trainer.__init__", "attached (internvl, qwen2", "LoRA r=4", "5 samples"):
        assert any(said in line for line in lines), said
    assert (out / "adapter_model.safetensors").is_file()

    config = read_config(out / "sama_adapter")
    assert config.lora.r == 4
    fresh, trained = (attach(*tiny_host(), config) for _ in range(2))
    load_adapter(trained, out / "sama_adapter")
    pairs = zip(fresh.modules.parameters(), trained.modules.parameters())
    assert any(not torch.equal(a, b) for a, b in pairs)
    lora = load_file(out / "sama_adapter" / "lora.safetensors")
    assert any(tensor.abs().sum() > 0 for name, tensor in lora.items() if name.endswith(".B"))


def test_the_script_alone_knows_nothing_of_the_plugin(files, tmp_path, monkeypatch):
    assert "sama" not in SCRIPT.read_text()
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import finetune

    monkeypatch.setattr(sys, "argv", ["finetune.py", *script_flags(files, tmp_path / "out")])
    finetune.main()
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert not (tmp_path / "out" / "sama_adapter").exists()


OWN = """
import torch
from transformers import Trainer, TrainingArguments, AutoTokenizer
from transformers import InternVLForConditionalGeneration


def main():
    model = InternVLForConditionalGeneration.from_pretrained({host!r})
    tokenizer = AutoTokenizer.from_pretrained({host!r})
    arguments = TrainingArguments({out!r}, max_steps=1, use_cpu=True, report_to=[])
    {before}
    return Trainer({arguments})
"""
PEFT = (
    "from peft import LoraConfig, get_peft_model; "
    "model = get_peft_model(model, LoraConfig(r=3, target_modules={targets!r}))"
)
FEW_LOGITS = (
    "Trainer = type('Own', (Trainer,), {'compute_loss': lambda self, model, inputs, **_: "
    "model(**inputs, logits_to_keep=1).loss})"
)
PARTIAL = "import functools; model.forward = functools.partial(model.forward, logits_to_keep=1)"


def own_script(files, tmp_path, arguments, before="pass"):
    path = tmp_path / "own_script.py"
    values = {"host": str(files / "host"), "out": str(tmp_path / "out")}
    path.write_text(OWN.format(arguments=arguments, before=before, **values))
    return str(path)


def test_ranks_compare_what_was_changed_when_the_trainer_is_made(files, tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(install, "check_ranks", lambda ledger: compared.extend(ledger.lines()))
    script = own_script(files, tmp_path, "model, arguments, processing_class=tokenizer")
    launch([script, *plugin_flags(files)])
    for said in ("Trainer.__init__", "attached (internvl", "replaced by 5 samples"):
        assert any(said in line for line in compared), said


def test_a_script_that_wrapped_by_peft_keeps_its_adapters(files, tmp_path):
    script = own_script(
        files,
        tmp_path,
        "model, arguments, processing_class=tokenizer",
        PEFT.format(targets=r".*language_model.*q_proj"),
    )
    trainer = launch([script, *plugin_flags(files)])
    assert type(trainer).__name__ == "SamaTrainer" and isinstance(trainer, Trainer)
    assert not torch_optimizer._global_optimizer_pre_hooks
    assert trainer.model.peft_config["default"].r == 3
    assert trainer.args.ddp_find_unused_parameters is False
    trained = {name for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert any(".sama.region." in name for name in trained)
    assert all(".lora_" in name or ".sama." in name for name in trained)


@pytest.mark.parametrize(
    ("arguments", "before", "message"),
    [
        ("model, arguments", "pass", "gives its Trainer no tokenizer .processing_class is NoneTy"),
        ("model_init=lambda: model, args=arguments", "pass", "no model"),
        (
            "model, arguments, processing_class=tokenizer, "
            "optimizers=(torch.optim.SGD(model.parameters(), lr=1), None)",
            "pass",
            "gives its Trainer an optimiser",
        ),
        (
            "model, arguments, processing_class=tokenizer",
            "arguments.eval_strategy = 'steps'",
            "evaluates during training on its own dataset",
        ),
        (
            "model, arguments, processing_class=tokenizer",
            PEFT.format(targets=["q_proj"]),
            r"LoRA on 1 layers that sama_adapter does not keep .vision tower 1; first: .*narrow",
        ),
        (
            "model, arguments, processing_class=tokenizer",
            "global Trainer; " + FEW_LOGITS,
            "Own.compute_loss uses logits_to_keep, which leaves out",
        ),
        (
            "model, arguments, processing_class=tokenizer",
            PARTIAL,
            "the model's own forward uses logits_to_keep",
        ),
    ],
)
def test_scripts_that_would_train_something_else_are_refused(
    files, tmp_path, arguments, before, message
):
    constructor = Trainer.__init__
    script = own_script(files, tmp_path, arguments, before)
    with pytest.raises(PluginError, match=message):
        launch([script, *plugin_flags(files)])
    assert Trainer.__init__ is constructor


LOOP = """
import torch


def main():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for _ in range(3):
        weight.sum().backward()
        optimizer.step()
"""


def test_a_loop_of_the_script_s_own_stops_before_its_first_step(files, tmp_path):
    script = tmp_path / "own_script.py"
    script.write_text(LOOP)
    message = "takes a step of SGD and has constructed no transformers.Trainer"
    with pytest.raises(PluginError, match=message):
        launch([str(script), *plugin_flags(files)])
    assert not torch_optimizer._global_optimizer_pre_hooks
    sys.modules["own_script"].main()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--plugin", "sama"], "give one with --plugin.data FILE.jsonl"),
        (["--plugin", "sama", "--plugin.data", "no.jsonl"], "--plugin.data no.jsonl: no such file"),
    ],
)
def test_without_data_the_launcher_says_what_to_do(flags, message, capsys):
    assert reporting(lambda: launch([str(SCRIPT), *flags])) == 2
    assert message in capsys.readouterr().err
