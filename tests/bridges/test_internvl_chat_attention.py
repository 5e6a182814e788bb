"""What is done about flash-attn, which both trees ask for: with it, without it, and with a wish.

The package here is a stand-in: that it can be found is all that these decisions read.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType, SimpleNamespace

import pytest

from sama_plugin.bridges.internvl_chat.install import install
from sama_plugin.bridges.internvl_chat.patches import known_patches
from sama_plugin.bridges.internvl_chat.prepare import Preparation
from sama_plugin.bridges.internvl_chat.trainer import lora_settings
from sama_plugin.errors import PluginError
from sama_plugin.hosts.internvl_chat.shims import placeholders
from sama_plugin.model.config import SamaConfig
from sama_plugin.patching.launch import LaunchOptions
from sama_plugin.patching.ledger import Ledger
from tests.hosts.conformance import hold
from tests.hosts.internvl_chat.lookalike import internvl_chat

ABOUT_ATTENTION = {"internvl_chat.attention", "internvl_chat.packed_attention"}
TREES = ("internvl_chat", "internvl_chat_gpt_oss")


@pytest.fixture
def flash_attn(tmp_path, monkeypatch):
    """A package of that name."""
    (tmp_path / "flash_attn").mkdir()
    (tmp_path / "flash_attn" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.fixture
def no_flash_attn():
    if importlib.util.find_spec("flash_attn") is not None:
        pytest.skip("flash_attn is installed here")


def patches(tree, attention=""):
    script = ModuleType("internvl.train.internvl_chat_finetune")
    preparation = Preparation(SamaConfig(), None, None, Ledger())
    made = known_patches(script, tree, preparation, LaunchOptions(attention=attention))
    return {patch.id: patch for patch in made if patch.id in ABOUT_ATTENTION}


@pytest.mark.parametrize("tree", TREES)
def test_with_flash_attn_the_tree_keeps_its_own_attention(flash_attn, tree):
    assert patches(tree) == {}
    with placeholders() as missing:
        assert "flash_attn" not in missing


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("attention", ["", "eager"])
def test_without_it_or_with_a_wish_another_is_chosen(no_flash_attn, tree, attention):
    packed = set() if tree == "internvl_chat" else {"internvl_chat.packed_attention"}
    assert set(patches(tree, attention)) == {"internvl_chat.attention", *packed}


def test_a_wish_is_heard_where_flash_attn_is(flash_attn):
    assert "internvl_chat.attention" in patches("internvl_chat", "eager")


class OwnCode(SimpleNamespace):
    """A configuration of a language model that the tree brings itself."""


def of_transformers():
    kind = type("Config", (SimpleNamespace,), {"__module__": "transformers.models.qwen2"})
    return kind(_attn_implementation="flash_attention_2")


@pytest.mark.parametrize(
    ("made", "wish", "chosen"),
    [
        (of_transformers, "", "sdpa"),
        (of_transformers, "eager", "eager"),
        (of_transformers, "flash_attention_2", "flash_attention_2"),
        (lambda: OwnCode(attn_implementation="flash_attention_2"), "", "eager"),
        (lambda: OwnCode(attn_implementation="x"), "flash_attention_2", "flash_attention_2"),
    ],
)
def test_the_language_model_is_loaded_with_what_was_chosen(no_flash_attn, made, wish, chosen):
    def original(cls, path, config=None):
        return cls, path, config

    patch = patches("internvl_chat", wish or "")["internvl_chat.attention"]
    config = SimpleNamespace(llm_config=made())
    found = patch.make(original)("the class", "a folder", config=config)
    assert found == ("the class", "a folder", config)
    assert config.llm_config._attn_implementation == chosen
    assert getattr(config.llm_config, "attn_implementation", chosen) == chosen


def test_a_wish_for_what_is_not_installed_is_refused(no_flash_attn):
    options = LaunchOptions(plugin="sama", attention="flash_attention_2")
    with pytest.raises(PluginError, match="attention flash_attention_2: flash_attn is not install"):
        install(Ledger(), options)


def test_a_call_of_a_stand_in_says_what_to_install(no_flash_attn):
    with placeholders() as missing:
        assert "flash_attn" in missing
        from flash_attn.bert_padding import unpad_input
    with pytest.raises(
        PluginError, match="flash_attn.bert_padding.unpad_input was called, but fla"
    ):
        unpad_input()


def test_lora_on_the_vision_tower_is_refused():
    """What `--use_backbone_lora` does, seen when the Trainer is made."""
    from peft import LoraConfig, inject_adapter_in_model
    from torch import nn

    sama = hold(*internvl_chat())
    tower = sama.host.vision_model
    kinds = (nn.Linear, nn.Conv2d)
    linear = [name for name, one in tower.named_modules() if isinstance(one, kinds)]
    inject_adapter_in_model(LoraConfig(r=2, target_modules=linear), tower)
    message = f"LoRA on {len(linear)} layers of the vision tower .*Leave out --use_backbone_lora"
    with pytest.raises(PluginError, match=message):
        lora_settings(sama)
