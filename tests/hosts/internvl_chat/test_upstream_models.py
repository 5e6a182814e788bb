"""The real upstream checkouts with every language model they bring, on two ranks, and InternVL3.5
on the stack it pins.

Settings as in `test_upstream.py`; besides, the stack `pinned35` has transformers 4.55.0.
"""

from __future__ import annotations

import pytest

from tests.hosts.internvl_chat.test_upstream import (
    HELPER,
    folder_of,
    launch,
    losses,
    report,
    site,
    tree,
)
from tests.hosts.internvl_chat.upstream import SCRIPT, flags, python

AVERAGING = "tests.hosts.internvl_chat.gloo"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("stack", "family"),
    [("pinned", "llama"), ("pinned", "internlm2"), ("pinned", "phi3"), ("modern", "llama")],
)
def test_other_language_models_learn_reload_and_mask(tmp_path, stack, family):
    """InternLM2 and Phi3 are the tree's own code, which newer transformers does not run."""
    root, overlay = tree(), site(stack)
    python(["-m", HELPER, "make", tmp_path, root, family], root, overlay)
    said = launch(tmp_path, root, overlay, 6)
    values = losses(said, "loss_mask_dice")
    assert len(values) == 6 and values[-1] < 0.8 * values[0], values
    found = report(python(["-m", HELPER, "chat", tmp_path, root], root, overlay))
    assert found["missing"] == [] and found["unexpected"] == [], found
    assert found["masks"][1] == found["phrases"][1] == 2, found


@pytest.mark.parametrize("family", ["internlm2", "phi3"])
def test_language_models_of_the_tree_are_refused_on_transformers_5(tmp_path, family):
    root = tree()
    python(["-m", HELPER, "make", tmp_path, root, family], root, site("pinned"))
    with pytest.raises(AssertionError, match="code of this language model does not run on transf"):
        launch(tmp_path, root, site("modern"), 1)


@pytest.mark.parametrize(
    ("variable", "stack", "family"),
    [
        ("SAMA_INTERNVL_ROOT", "pinned", "internlm2"),
        ("SAMA_INTERNVL_ROOT", "modern", "qwen2"),
        ("SAMA_INTERNVL35_ROOT", "modern", "qwen3"),
    ],
)
def test_two_ranks_train_together_and_one_saves(tmp_path, variable, stack, family):
    root, overlay = folder_of(variable, "a checkout of InternVL"), site(stack)
    python(["-m", HELPER, "make", tmp_path, root, family], root, overlay)
    module = AVERAGING if "35" in variable else "sama_plugin"
    values = flags(tmp_path, tmp_path / "out", 2, per_device_train_batch_size=2)
    config = tmp_path / "plugin.yaml"
    said = python(
        [
            *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
            *("-m", module, SCRIPT, *values, "--plugin", "sama", "--plugin.config", config),
        ],
        root,
        overlay,
    )
    assert said.count("processes meet over gloo") == 2
    assert len(losses(said, "loss_mask_dice")) == 2  # rank 0 alone logs
    assert (tmp_path / "out" / "sama_adapter" / "lora.safetensors").is_file()


def test_internvl35_on_the_stack_it_pins(tmp_path):
    """With the lengths of its datasets (--group_by_length), which this stack would not take."""
    root = folder_of("SAMA_INTERNVL35_ROOT", "InternVL/internvl_chat_gpt_oss of a checkout")
    overlay = site("pinned35")
    python(["-m", HELPER, "make", tmp_path, root, "qwen3"], root, overlay)
    said = launch(tmp_path, root, overlay, 6, module=AVERAGING)
    assert "drawn by the lengths of" in said
    values = losses(said, "loss_mask_dice")
    assert len(values) == 6 and values[-1] < 0.8 * values[0], values
    found = report(python(["-m", HELPER, "chat", tmp_path, root], root, overlay))
    assert found["missing"] == [] and found["unexpected"] == [], found
    assert found["masks"][1] == found["phrases"][1] == 2, found


FIRST_LINES = """
import runpy, sys
found = {}
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "internvl.train.internvl_chat_finetune":
            found["heavy"] = [one for one in ("torch", "transformers") if one in sys.modules]
sys.meta_path.insert(0, Watch())
"""


@pytest.mark.parametrize("stack", ["pinned", "modern"])
def test_the_real_script_begins_before_torch_does(tmp_path, stack):
    """Seen from a hook in the launcher's own process; `--help` ends the script."""
    code = f"""{FIRST_LINES}
sys.argv = ["sama_plugin", {SCRIPT!r}, "--plugin", "sama", "--help"]
try:
    runpy.run_module("sama_plugin", run_name="__main__", alter_sys=True)
except SystemExit:
    print("BEFORE", found["heavy"])
"""
    assert "BEFORE []" in python(["-c", code], tree(), site(stack))
