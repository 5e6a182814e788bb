"""The table of released names: both directions, nothing twice, nothing forgotten."""

from __future__ import annotations

import pytest

from sama_plugin.nn.names import our_name, released_name
from sama_plugin.nn.seg import SegHead
from tests.nn.conftest import released_modules

SIZES = dict(
    D=6, E=10, h=8, heads=2, inter=12, sp_layers=3, sp_freq=2, sp_q=2, tp_layers=2, tp_q=3,
    vocab=11, maxpos=9, mlp_hid=4, window=4, stride=4,
)  # fmt: skip
NEW = ["region.absent", "region.absent_rows"]


def twin():
    modules = released_modules(SIZES)
    modules["seg_head"] = SegHead(6, 5)
    return modules


def test_every_parameter_has_one_released_name_and_back():
    names = [name for name, _ in twin().named_parameters() if name not in NEW]
    released = [released_name(name) for name in names]
    assert None not in released and len(set(released)) == len(names) > 100
    assert [our_name(name) for name in released] == names


@pytest.mark.parametrize(
    "name",
    [
        "aggregator.spatial.time.project.weight",
        "aggregator.output.weight",
        "seg_head.film.weight",
        "input_rows.weight",
        *NEW,
    ],
)
def test_what_only_we_have_has_no_released_name(name):
    assert released_name(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "mlp1.0.weight",
        "vision_model.embeddings.class_embedding",
        "spatial_Qformer.bert.embeddings.position_ids",
        "spatial_Qformer.bert.encoder.layer.0.unheard_of.weight",
    ],
)
def test_what_only_the_release_has_has_no_name_of_ours(name):
    assert our_name(name) is None
