"""Transformers-native InternVL."""

from __future__ import annotations

import pytest

from sama_plugin.errors import SlotError
from tests.hosts.conformance import Conformance, grounded, hold
from tests.hosts.tiny import TINY


class TestInternVL(Conformance):
    host = "internvl"


def test_a_head_that_leaves_positions_out_cannot_train_masks(tmp_path):
    sama = hold(*TINY["internvl"].build())
    inputs = grounded(sama, tmp_path)
    inputs["labels"] = inputs["labels"][:, -3:]
    with pytest.raises(SlotError, match="logits_to_keep leaves out"):
        sama.host(**inputs, logits_to_keep=3)
