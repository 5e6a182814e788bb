"""The LLaVA family."""

from __future__ import annotations

import json

import pytest
import torch

from sama_plugin.dialog.template import ChatTemplate
from sama_plugin.errors import HostError
from sama_plugin.hosts.tokenizer import load_tokenizer
from tests.hosts.conformance import Conformance, hold, noise, prompt
from tests.hosts.tiny import TINY


class TestLlava(Conformance):
    host = "llava"


class TestLlavaNextVideo(Conformance):
    host = "llava_next_video"


class TestLlavaOnevision(Conformance):
    host = "llava_onevision"


def test_a_class_token_among_the_visual_tokens_is_refused():
    model, tokenizer = TINY["llava"].build()
    model.config.vision_feature_select_strategy = "full"
    with pytest.raises(HostError, match="class token"):
        hold(model, tokenizer)


def test_onevision_frames_are_closed_by_the_newline_vector():
    sama = hold(*TINY["llava_onevision"].build())
    features = sama.encode_frames(noise(2)).features
    rows = sama.adapter.language_rows(sama.host, features)
    assert rows.shape == (2 * 17, 48) and len(prompt(sama, 2, "")) >= 2 * 17
    assert torch.equal(rows[16], sama.host.model.image_newline)
    assert torch.equal(rows[17:33], features[1])


PARTS = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
    "{% for p in m['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}"
    "{% endfor %}"
    "{% for p in m['content'] | selectattr('type', 'equalto', 'text') %}{{ p['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


@pytest.mark.parametrize("name", ["chat_template.json", "processor_config.json"])
def test_a_template_that_lies_with_the_processor_is_found(tmp_path, name):
    _, tokenizer = TINY["llava"].build()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).chat_template is None
    (tmp_path / name).write_text(json.dumps({"chat_template": PARTS}))
    template = ChatTemplate.probe(load_tokenizer(str(tmp_path)))
    assert (template.start, template.assistant_open) == ("USER: ", " ASSISTANT:")
    assert template.end == tokenizer.eos_token
