"""Imported parts are where a training starts; a part that does not fit is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from sama_plugin.errors import CheckpointError
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import save_adapter
from sama_plugin.model.config import RegionConfig
from tests.model.conftest import tiny_config


def part(sama, start, file, value=0.25):
    tensors = {n: v for n, v in sama.modules.state_dict().items() if n.startswith(start)}
    tensors = {n: torch.full_like(v, value) for n, v in tensors.items()}
    save_file(tensors, str(file))
    return tensors


@pytest.mark.parametrize(
    "start, region", [("aggregator.spatial.", "sama"), ("region.feat_linear.", "videorefer")]
)
def test_modules_start_with_the_part(tiny, tmp_path, start, region):
    settings = {"region": RegionConfig(kind=region, shape_size=16, shape_hidden=16)}
    sama = attach(*tiny, tiny_config(**settings))
    fresh = {name: value.clone() for name, value in sama.modules.state_dict().items()}
    tensors = part(sama, start, tmp_path / "part.safetensors")
    assert tensors
    sama.detach()
    files = (str(tmp_path / "part.safetensors"),)
    again = attach(*tiny, tiny_config(**settings, start_from=files))
    for name, value in again.modules.state_dict().items():
        assert torch.equal(value, tensors.get(name, fresh[name])), name
    save_adapter(again, tmp_path / "sama_adapter")
    described = json.loads((tmp_path / "sama_adapter/config.json").read_text())
    assert described["settings"]["start_from"] == []


def test_a_part_that_does_not_fit_is_named(tiny, tmp_path):
    save_file({"region.feat_linear.0.weight": torch.zeros(3, 2)}, str(tmp_path / "p.safetensors"))
    files = (str(tmp_path / "p.safetensors"),)
    with pytest.raises(CheckpointError, match=r"feat_linear.0.weight \(3, 2\) \(here absent\)"):
        attach(*tiny, tiny_config(start_from=files))
    assert not hasattr(tiny[0], "sama")
