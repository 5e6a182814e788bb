"""LoRA goes on the layers of the language model that are meant, or nowhere."""

from __future__ import annotations

import pytest

from sama_plugin.errors import ConfigError, HostError
from sama_plugin.model.adapters import add_lora
from sama_plugin.model.config import LoraSettings


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (r".*\.q_proj", "language model 2, vision tower 1, projector 0, elsewhere"),
        (r".*vision_tower.*\.[qk]_proj", "language model 0, vision tower 2, projector 0; first"),
        ("nothing", "language model 0, vision tower 0, projector 0; first .."),
    ],
)
def test_a_pattern_that_matches_other_layers_is_refused(sama, monkeypatch, pattern, found):
    monkeypatch.setattr(sama.adapter, "lora_pattern", lambda *_: pattern)
    before = [name for name, _ in sama.host.named_modules()]
    message = f"targets q should match 2 layers of the language model .qwen2.*match: {found}"
    with pytest.raises(HostError, match=message):
        add_lora(sama, LoraSettings(r=2, targets=("q",)))
    assert [name for name, _ in sama.host.named_modules()] == before


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("q", "gat"), "unknown LoRA target 'gat' .did you mean 'gate'"),
        (("q_proj",), "unknown LoRA target 'q_proj'"),
        ((), "do not exist in qwen2; it has q, k, v"),
    ],
)
def test_targets_that_are_none_are_refused(sama, targets, message):
    with pytest.raises(ConfigError, match=message):
        add_lora(sama, LoraSettings(r=2, targets=targets))
