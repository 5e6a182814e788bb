"""Every flag of the internvl_chat recipes is one that the host's script, or the plugin, parses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sama_plugin.patching.launch import LaunchOptions, split_flags
from tests.conftest import REPOSITORY

RECIPES = sorted((REPOSITORY / "recipes" / "internvl_chat").glob("*.sh"))
SIZES = {
    "internvl2_5_lora": ("1B", "2B", "4B", "8B", "26B", "38B"),
    "internvl3_lora": ("1B", "2B", "8B", "9B", "14B", "38B"),
    "internvl3_5_lora": ("1B", "2B", "4B", "8B", "14B", "30B-A3B", "38B"),
}
HOST = {  # what the scripts of both trees parse, beside transformers' TrainingArguments
    *("model_name_or_path", "conv_style", "use_fast_tokenizer", "meta_path", "force_image_size"),
    *("max_dynamic_patch", "down_sample_ratio", "drop_path_rate", "freeze_llm", "freeze_mlp"),
    *("freeze_backbone", "use_llm_lora", "vision_select_layer", "max_seq_length"),
    *("grad_checkpoint", "dynamic_image_size", "use_thumbnail", "ps_version"),
}
HOST_3_5 = {"split_annotations", "use_custom_flash_attn", "use_packed_ds", "min_num_frame"}
HOST_3_5 |= {"max_num_frame"}
GIVEN = {"META": "meta.json", "CONFIG": "sama.yaml", "OUTPUT_DIR": "out"}


def line(recipe: Path, tmp_path: Path, *words: str, **given: str) -> list[str]:
    """The arguments that the recipe gives to torchrun, run with `words` and variables `given`."""
    stand_in = tmp_path / "bin" / "torchrun"
    stand_in.parent.mkdir(exist_ok=True)
    stand_in.write_text('#!/bin/sh\nfor one in "$@"; do echo "$one"; done\n')
    stand_in.chmod(0o755)
    path = f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", recipe, *words],
        cwd=tmp_path,
        env={**os.environ, **given, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_flags_are_parsed(recipe, tmp_path):
    shims = pytest.importorskip("sama_plugin.hosts.internvl_chat.shims")
    training = set(shims.LegacyArguments.__dataclass_fields__)
    for size in SIZES[recipe.stem]:
        arguments = line(recipe, tmp_path, SIZE=size, **GIVEN)
        start = arguments.index("-m")
        assert arguments[start + 1] == "sama_plugin"
        options, rest = split_flags(arguments[start + 2 :])
        assert options == LaunchOptions(plugin="sama", config="sama.yaml")
        assert rest[0] == "internvl/train/internvl_chat_finetune.py"
        flags = [text[2:] for text in rest[1:] if text.startswith("--")]
        assert len(flags) == len(set(flags)) and len(rest) == 1 + 2 * len(flags)
        known = HOST | training | (HOST_3_5 if "3_5" in recipe.stem else set())
        assert set(flags) <= known, set(flags) - known


def test_every_recipe_is_tested_and_unknown_sizes_are_refused(tmp_path):
    assert {recipe.stem for recipe in RECIPES} == set(SIZES)
    for recipe in RECIPES:
        with pytest.raises(AssertionError, match="SIZE=7B: one of"):
            line(recipe, tmp_path, SIZE="7B", **GIVEN)
