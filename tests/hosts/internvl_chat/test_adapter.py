"""The class of the upstream trees and of remote code, by a lookalike; the real ones are in
`test_upstream.py`."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from sama_plugin.data.batch import empty_batch
from sama_plugin.dialog.template import ChatTemplate
from sama_plugin.errors import SlotError
from sama_plugin.hosts.base import find_adapter
from sama_plugin.hosts.internvl_chat.lora import fused_rows, pattern
from sama_plugin.hosts.internvl_chat.template import chat_template
from tests.hosts.conformance import Conformance, grounded, hold, noise, prompt
from tests.hosts.internvl_chat.lookalike import classes, internvl_chat, native
from tests.hosts.tiny import TinyHost


class TestInternVLChat(Conformance):
    host = "internvl_chat"
    tiny = TinyHost(internvl_chat, native)

    def _speak(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return model(**inputs).logits, self._text(model, inputs)

    def _text(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        wanted = {key: value for key, value in inputs.items() if key != "image_flags"}
        return model.generate(**wanted, max_new_tokens=6, do_sample=False)[0]

    def test_greedy_text_is_the_hosts_own(self, monkeypatch):
        kind = classes().InternVLChatModel
        own = kind.generate

        def generate(model, image_flags=None, **inputs):
            """New ids behind the prompt, as transformers' own hosts return them."""
            new = own(model, **inputs)
            return torch.cat([inputs["input_ids"], new], dim=1)

        monkeypatch.setattr(kind, "generate", generate)
        super().test_greedy_text_is_the_hosts_own()


@pytest.mark.parametrize(
    "case", ["k_of_f_frames_equal_k_alone_bit_for_bit", "cells_lie_where_the_grid_says"]
)
def test_cells_that_come_column_by_column(case):
    """`ps_version` v1 transposes them."""
    suite = TestInternVLChat()
    suite.tiny = TinyHost(lambda seed=0: internvl_chat(seed, ps_version="v1"), native)
    getattr(suite, f"test_{case}")()


def test_cached_cells_that_come_column_by_column(tmp_path):
    suite = TestInternVLChat()
    suite.tiny = TinyHost(lambda seed=0: internvl_chat(seed, ps_version="v1"), native)
    suite.test_cached_frames_equal_pixels(tmp_path)


def test_found_by_its_shape():
    model, _ = internvl_chat()
    assert find_adapter(model).name == "internvl_chat"


def test_chats_are_worded_by_the_checkpoint_not_by_the_tokenizer():
    sama = hold(*internvl_chat())
    template = ChatTemplate.probe(sama.tokenizer)
    system = 'You "see", and you speak.'
    assert template.start == f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"
    assert template.system_open == "<|im_start|>system\n"
    assert (template.end, template.assistant_close) == ("<|im_end|>", "\n")
    conversation = sama.host.conv_template.copy()
    turns = ("question", "answer", "and then?", None)
    for role, words in zip([*conversation.roles] * 2, turns):
        conversation.append_message(role, words)
    rendered = sama.tokenizer.apply_chat_template(
        [
            {"role": role, "content": words}
            for role, words in zip(("user", "assistant", "user"), turns)
        ],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert rendered == conversation.get_prompt()


class Oneway:
    """A template that loses answers."""

    roles, system_message = ("Q:", "A:"), ""

    def __init__(self):
        self.text = ""

    def copy(self):
        return type(self)()

    def append_message(self, role, words):
        self.text += role if role == "A:" else role + (words or "")

    def get_prompt(self):
        return self.system_message + self.text


def test_a_template_that_loses_words_is_refused():
    from sama_plugin.errors import HostError

    with pytest.raises(HostError, match="does not repeat each message once"):
        chat_template(Oneway(), None)


def test_counts_are_checked_before_the_host_cuts(tmp_path):
    """The bare class would cut its inputs and zero its loss."""
    sama = hold(*internvl_chat())
    inputs = grounded(sama, tmp_path)
    start = int((inputs["input_ids"][0] == sama.image_id).nonzero()[0]) + 3
    short = {key: inputs[key][:, start:] for key in ("input_ids", "attention_mask", "labels")}
    with pytest.raises(SlotError, match="are not whole frames of 16"):
        sama.host(**{**inputs, **short})
    fewer = dataclasses.replace(
        inputs["sama"],
        keep_rows=inputs["sama"].keep_rows[1:],
        keep_moment=inputs["sama"].keep_moment[1:],
    )
    with pytest.raises(SlotError, match="read . frames, its frame plans keep"):
        sama.host(**{**inputs, "sama": fewer})


def test_a_bare_call_beside_an_attached_plugin_is_the_hosts(tmp_path):
    sama = hold(*internvl_chat())
    ids = torch.tensor([prompt(sama, 1)])
    output = sama.host(input_ids=ids, **native(sama.host, ids, noise(1)))
    assert output.logits.shape[-1] == sama.host.language_model.config.vocab_size
    assert empty_batch(1, 16, 16).frame_owner.numel() == 0


def test_rows_of_internlm2_s_fused_layer_are_by_group():
    class Config:
        num_attention_heads, num_key_value_heads, hidden_size = 4, 2, 8

    rows = fused_rows("internlm2", Config, ["q", "k", "v"])
    assert rows["q"].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert rows["k"].tolist() == [4, 5, 12, 13] and rows["v"].tolist() == [6, 7, 14, 15]


@pytest.mark.parametrize(
    ("family", "name", "matches"),
    [
        ("qwen2", "language_model.model.layers.3.self_attn.q_proj", True),
        ("qwen2", "language_model.base_model.model.model.layers.0.mlp.up_proj", True),
        ("qwen2", "vision_model.encoder.layers.0.self_attn.q_proj", False),
        ("internlm2", "language_model.model.layers.0.attention.wqkv", True),
        ("phi3", "language_model.model.layers.0.self_attn.qkv_proj", True),
        ("qwen3_moe", "language_model.model.layers.0.mlp.gate", False),
    ],
)
def test_lora_touches_the_language_model_alone(family, name, matches):
    import re

    targets = ("q", "k", "v", "o", "gate", "up", "down")
    assert bool(re.fullmatch(pattern(family, targets), name)) is matches
