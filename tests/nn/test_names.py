"""The table of released names: both directions, nothing twice, nothing forgotten."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sama_plugin.errors import CheckpointError
from sama_plugin.nn.names import load_released, our_name, released_name
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


def checkpoint(modules):
    """Released names to fresh tensors, with what the released layout has beyond ours."""
    tensors = {
        released_name(name): torch.randn_like(parameter)
        for name, parameter in modules.named_parameters()
        if name not in NEW
    }
    tensors["temporal_Qformer.bert.embeddings.position_ids"] = torch.arange(9)
    tensors["temporal_Qformer.bert.encoder.layer.1.intermediate.dense.weight"] = torch.zeros(12, 8)
    tensors["language_model.model.norm.weight"] = torch.ones(6)
    return tensors


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
        "region.output.weight",
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


def test_loading_copies_every_value_and_reports_what_is_new():
    modules = twin()
    tensors = checkpoint(modules)
    assert load_released(modules, tensors) == NEW
    for name, parameter in modules.named_parameters():
        assert name in NEW or torch.equal(parameter, tensors[released_name(name)])


def test_a_part_can_be_loaded_alone():
    modules = twin()
    before = {name: p.clone() for name, p in modules.named_parameters()}
    load_released(modules, checkpoint(modules), ["aggregator.spatial."])
    moved = {name for name, p in modules.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if name.startswith("aggregator.spatial.")}


def test_a_checkpoint_that_does_not_fit_is_refused():
    modules, name = twin(), "temporal_Qformer.bert.encoder.layer.0.output.dense.weight"
    tensors = checkpoint(modules)
    with pytest.raises(CheckpointError, match=r"lacks .*layer\.0\.output\.dense"):
        load_released(modules, {key: t for key, t in tensors.items() if key != name})
    with pytest.raises(CheckpointError, match=r"shape \(8, 13\).*\(8, 12\)"):
        load_released(modules, {**tensors, name: torch.zeros(8, 13)})
    deeper = {
        f"spatial_Qformer.bert.encoder.layer.3.output_query.dense.{p}": torch.zeros(8)
        for p in ("bias",)
    }
    with pytest.raises(CheckpointError, match="has more than we hold"):
        load_released(modules, {**tensors, **deeper})


def test_absent_modules_are_passed_over():
    modules = twin()
    alone = nn.ModuleDict({"seg_head": SegHead(6, 5)})
    assert load_released(alone, checkpoint(modules), ["seg_head."]) == []
