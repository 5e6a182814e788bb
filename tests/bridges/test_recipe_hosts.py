"""The host's own flags in the recipes for ms-swift and LLaMA-Factory, parsed by those codebases.

Needs `SAMA_RECIPE_SITE`, a folder of packages that goes before this environment:

    pip install --no-deps --target SITE -r tests/bridges/recipes.txt
    SAMA_RECIPE_SITE=SITE pytest -m slow tests/bridges/test_recipe_hosts.py
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Sequence

import pytest

from sama_plugin.patching.launch import LaunchOptions, split_flags
from tests.bridges.test_recipes import line
from tests.conftest import REPOSITORY
from tests.hosts.internvl_chat.upstream import python

pytestmark = pytest.mark.slow

PARSE = {  # argv: the flags; REPORT: what of them the host understood
    "swift": """
import dataclasses, json, sys
from swift.arguments import SftArguments
from swift.template.base import Template
from swift.utils import parse_args

found, rest = parse_args(SftArguments, sys.argv[1:])
names = {field.name for field in dataclasses.fields(SftArguments)}
given = {text[2:] for text in sys.argv[1:] if text.startswith("--")}
assert not rest, rest
assert given <= names, given - names  # argparse would take the beginning of a name
assert Template.pre_forward_hook.__code__.co_filename.endswith("recipes/swift/sama_external.py")
print("REPORT", json.dumps({**vars(found), "training_args": None}, default=str))
""",
    "llama_factory": """
import json
from llamafactory.hparams import get_train_args

found = [vars(part) for part in get_train_args()]
print("REPORT", json.dumps({k: v for part in found for k, v in part.items()}, default=str))
""",
}
UNDERSTOOD = {
    "swift": {
        "tuner_type": "lora",
        "lora_rank": 128,
        "lora_alpha": 256,
        "use_logits_to_keep": False,
        "learning_rate": 4e-5,
        "gradient_accumulation_steps": 8,
    },
    "llama_factory": {
        "template": "intern_vl",
        "lora_rank": 128,
        "lora_alpha": 256,
        "lora_target": [
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
        ],
        "learning_rate": 4e-5,
        "remove_unused_columns": False,
        "gradient_accumulation_steps": 8,
    },
}
ENTRY = {
    "swift": ("swift.pipelines", "sft_main"),
    "llama_factory": ("llamafactory.train.tuner", "run_exp"),
}
MISSPELT = {"swift": ["--lora_rnak", "8"], "llama_factory": ["lora_rnak=8"]}


@pytest.fixture(params=sorted(PARSE))
def recipe(request) -> str:
    return request.param


@pytest.fixture
def site() -> Path:
    folder = os.environ.get("SAMA_RECIPE_SITE")
    if not folder:
        pytest.skip("SAMA_RECIPE_SITE is not set; the first lines of this file say how to run it")
    return Path(folder).resolve()


def small(recipe: str, folder: Path) -> list[str]:
    """What a machine without GPU, hub and these checkpoints has to say beside the recipe."""
    values = {"output_dir": folder / "out", "use_cpu": "true"}
    if recipe == "llama_factory":
        return [f"{name}={value}" for name, value in values.items()]
    from tests.hosts import tiny

    model, tokenizer = tiny.internvl()
    model.save_pretrained(folder / "host")
    tokenizer.save_pretrained(folder / "host")
    values["model"] = folder / "host"
    return [str(text) for name, value in values.items() for text in (f"--{name}", value)]


def parsed(recipe: str, site: Path, folder: Path, more: Sequence[str] = ()) -> dict:
    """The recipe's command line through our launcher's parser, then the host's."""
    words = [*small(recipe, folder), *more]
    given = line(REPOSITORY / "recipes" / recipe / "lora.sh", folder, *words, DATA="train.jsonl")
    options, rest = split_flags(given[given.index("-m") + 2 :])
    module, entry = ENTRY[recipe]
    assert options == LaunchOptions(
        plugin="sama", entry=entry, data="train.jsonl", config="configs/sama_8b.yaml"
    )
    assert rest[0] == module
    source = site / module.replace(".", "/")
    source = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
    assert re.search(rf"\b{entry}\b", source.read_text(encoding="utf-8"))
    said = python(["-c", PARSE[recipe], *rest[1:]], REPOSITORY, str(site))
    return json.loads(re.search(r"^REPORT (.*)$", said, re.MULTILINE).group(1))


def test_the_host_understands_every_flag(recipe, site, tmp_path, monkeypatch):
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")
    found = parsed(recipe, site, tmp_path)
    expected = UNDERSTOOD[recipe]
    assert {name: found[name] for name in expected} == expected


def test_a_misspelt_flag_would_be_noticed(recipe, site, tmp_path, monkeypatch):
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")
    with pytest.raises(AssertionError, match="lora_rnak"):
        parsed(recipe, site, tmp_path, MISSPELT[recipe])
