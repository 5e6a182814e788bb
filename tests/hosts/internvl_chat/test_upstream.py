"""The real upstream checkouts, unmodified, on a CPU: train, save, reload, talk.

Needs `SAMA_INTERNVL_ROOT` (a checkout of OpenGVLab/InternVL, its folder `internvl_chat`) and, for
InternVL3.5, `SAMA_INTERNVL35_ROOT` (its folder `internvl_chat_gpt_oss`). `SAMA_UPSTREAM_SITES` is a
folder of package folders that go before this environment, one a stack (`make test-upstream` makes
them: `pinned` has transformers 4.37.2 and peft 0.10, `modern` the missing imports of the tree).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from statistics import mean

import pytest

from tests.hosts.internvl_chat.upstream import SCRIPT, flags, python

STACKS = ("pinned", "modern")
HELPER = "tests.hosts.internvl_chat.upstream"
pytestmark = pytest.mark.slow


def folder_of(variable: str, what: str) -> Path:
    """A folder named by the environment; without it the test is skipped, saying how to run it."""
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: {what}; `make test-upstream` sets it")
    return Path(value).resolve()


def tree() -> Path:
    return folder_of("SAMA_INTERNVL_ROOT", "InternVL/internvl_chat of a checkout")


def site(stack: str) -> str:
    return str(folder_of("SAMA_UPSTREAM_SITES", "packages of the stacks under test") / stack)


def report(said: str) -> dict:
    return json.loads(re.search(r"^REPORT (.*)$", said, re.MULTILINE).group(1))


def losses(said: str, name: str) -> list[float]:
    """One value a logged step."""
    return [float(value) for value in re.findall(rf"'{name}': '?([-+.e\d]+)", said)]


def launch(
    where: Path,
    root: Path,
    overlay: str,
    steps: int,
    *more: str,
    module: str = "sama_plugin",
    script: str = SCRIPT,
    out: str = "out",
    **changes,
) -> str:
    line = ["-m", module, script, *flags(where, where / out, steps, **changes)]
    config = where / "plugin.yaml"
    return python([*line, "--plugin", "sama", "--plugin.config", config, *more], root, overlay)


@pytest.fixture(scope="module", params=STACKS)
def trained(request, tmp_path_factory):
    """(stack, folder, what 50 steps of the LoRA recipe printed)."""
    root, overlay = tree(), site(request.param)
    where = tmp_path_factory.mktemp(request.param)
    python(["-m", HELPER, "make", where, root, "qwen2"], root, overlay)
    return overlay, where, launch(where, root, overlay, 50)


def test_the_recipe_teaches_grounding(trained):
    _, _, said = trained
    for part in ("loss_mask_dice", "loss_text"):
        values = losses(said, part)
        assert len(values) == 50 and mean(values[-5:]) < 0.9 * mean(values[:5]), (part, values)


def test_it_saves_what_the_hosts_class_loads_and_talks(trained):
    overlay, where, _ = trained
    found = report(python(["-m", HELPER, "chat", where, tree()], tree(), overlay))
    assert found["missing"] == [] and found["unexpected"] == [], found
    assert found["masks"][1] == found["phrases"][1] == 2, found
    assert (where / "out" / "sama_adapter" / "lora.safetensors").is_file()


def test_plain_chats_are_tokenised_as_the_host_does(trained):
    overlay, where, _ = trained
    found = report(python(["-m", HELPER, "tokens", where, tree()], tree(), overlay))
    (their_ids, their_labels), (our_ids, our_labels) = found["theirs"], found["ours"]
    size = len(our_ids)
    assert len(their_ids) - size == 1  # a last newline, not supervised
    assert our_ids == their_ids[:size] and our_labels == their_labels[:size]


def test_spawned_workers_find_our_records(trained):
    overlay, where, _ = trained
    said = launch(where, tree(), overlay, 2, dataloader_num_workers=2, overwrite_output_dir=True)
    assert len(losses(said, "loss_mask_dice")) == 2


PACKED = {
    "use_packed_ds": True,
    "per_device_train_batch_size": 1,
    "group_by_length": False,
    "max_packed_tokens": 2048,
    "replacement": True,
    "loss_reduction": "square",
}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_train(trained, attention):
    overlay, where, _ = trained
    chosen = ("--plugin.attention", attention)
    said = launch(where, tree(), overlay, 2, *chosen, out=f"packed_{attention}", **PACKED)
    assert "packed rows: samples are told apart by" in said
    assert len(losses(said, "loss_mask_dice")) == 2


@pytest.mark.parametrize("packed", [False, True])
def test_the_script_of_pre_training_trains(trained, packed):
    overlay, where, _ = trained
    script = SCRIPT.replace("finetune", "pretrain")
    changes = PACKED if packed else {"group_by_length": False}
    said = launch(where, tree(), overlay, 2, script=script, out=f"pretrained_{packed}", **changes)
    assert len(losses(said, "loss_mask_dice")) == 2


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("packed", [False, True])
def test_bad_records_are_set_aside(stack, packed, tmp_path):
    """Half of our records are bad; with a budget of one fewer the run stops and says so."""
    root, overlay = tree(), site(stack)
    python(["-m", HELPER, "make", tmp_path, root, "qwen2"], root, overlay)
    lines = (tmp_path / "grounded.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    records = [{**one, "id": f"{number}"} for number, one in enumerate(records)]
    for one in records[:2]:
        one["video"] = "gone.npy"
    (tmp_path / "grounded.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in records))
    changes = PACKED if packed else {"per_device_train_batch_size": 8}
    said = launch(tmp_path, root, overlay, 2, **changes)
    assert len(losses(said, "loss_mask_dice")) == 2 and losses(said, "bad_records")[-1] == 2
    lines = (tmp_path / "out" / "bad_records.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert sorted(one["record"] for one in found) == ["grounded/0", "grounded/1"]
    assert {one["reason"] for one in found} == {"missing_media"}
    meta = json.loads((tmp_path / "meta.json").read_text())
    meta["grounded"]["budget"] = 1
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(AssertionError, match="2 bad records, more than the budget of 1"):
        launch(tmp_path, root, overlay, 2, out="stopped", **changes)


@pytest.mark.parametrize(
    ("more", "changes", "message"),
    [
        ((), {**PACKED, "allow_overflow": True}, "--allow_overflow True: samples are cut"),
        (("--plugin.allow-unverified", "x"), {}, "--plugin.allow-unverified x: no such patch"),
    ],
)
def test_what_is_refused(trained, more, changes, message):
    overlay, where, _ = trained
    with pytest.raises(AssertionError, match=message):
        launch(where, tree(), overlay, 1, *more, **changes)


def test_lora_where_the_tree_has_none(tmp_path):
    """InternVL3.5: `--use_llm_lora` works, and the host's file loads without it."""
    root = folder_of("SAMA_INTERNVL35_ROOT", "InternVL/internvl_chat_gpt_oss of a checkout")
    overlay = site("modern")
    python(["-m", HELPER, "make", tmp_path, root, "qwen3"], root, overlay)
    averaging = "tests.hosts.internvl_chat.gloo"
    said = launch(tmp_path, root, overlay, 4, module=averaging)
    assert "drawn by the lengths of" in said  # the flag is gone from this transformers
    assert "added internvl.model.internvl_chat.modeling_internvl_chat.InternVLChatModel" in said
    assert len(losses(said, "loss_mask_dice")) == 4
    found = report(python(["-m", HELPER, "chat", tmp_path, root], root, overlay))
    assert found["missing"] == [] and found["unexpected"] == [], found
    packed = launch(tmp_path, root, overlay, 2, module=averaging, out="packed", **PACKED)
    assert "packed rows: samples are told apart by" in packed
    assert len(losses(packed, "loss_mask_dice")) == 2
