"""The LLaVA family."""

from __future__ import annotations

import pytest
import torch

from sama_plugin.errors import HostError
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
