"""Golden cases of the reference implementation, and small modules to compare with them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Mapping

import pytest
import torch
from torch import Tensor, nn

from sama_plugin.nn.aggregator import SamaAggregator
from sama_plugin.nn.injection import ContextInjection
from sama_plugin.nn.names import our_name, released_name
from sama_plugin.nn.question import WordpieceQuestion
from sama_plugin.nn.region import SamaRegionEncoder
from sama_plugin.nn.spatial import SpatialQFormer
from sama_plugin.nn.temporal import TemporalQFormer
from tests.conftest import REPOSITORY, golden_folders


@dataclass
class GoldenCase:
    """One folder of a golden topic; keeps account of which outputs were compared."""

    meta: Mapping[str, Any]
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    compared: set[str] = field(default_factory=set)

    def close(self, actual: Tensor, name: str) -> None:
        """Compare with an output, within the tolerance recorded with the case."""
        tolerance = self.meta["tolerance"]
        self.near(actual, name, atol=tolerance["atol"], rtol=tolerance["rtol"])

    def near(self, actual: Tensor, name: str, atol: float, rtol: float = 0.0) -> None:
        """Compare with an output, within another tolerance."""
        torch.testing.assert_close(
            actual,
            self.wanted(name).to(actual.dtype),
            atol=atol,
            rtol=rtol,
            msg=lambda text: f"{name}: {text}",
        )

    def same(self, actual: Any, name: str) -> None:
        """Compare with an output of integers, to the last one."""
        wanted = self.wanted(name)
        actual = torch.as_tensor(actual).to(wanted.dtype)
        assert torch.equal(actual, wanted), f"{name}: {actual} is not {wanted}"

    def wanted(self, name: str) -> Tensor:
        """An output, which counts as compared from now on."""
        self.compared.add(name)
        return self.outputs[name]

    def sizes(self, **missing: int) -> dict[str, int]:
        """The recorded sizes, `missing` ones filled in."""
        return {**missing, **self.meta["hyper"]}


def golden_cases(topic: str) -> pytest.MarkDecorator:
    """Parametrises a test with every case folder of a topic, whatever they are called."""
    root = Path(os.environ.get("SAMA_GOLDEN", REPOSITORY.parent / "shared" / "golden"))
    names = sorted(file.parent.name for file in (root / topic).glob("*/meta.json"))
    folders = [(topic, name) for name in names or [""]]
    return pytest.mark.parametrize(
        "case", folders, ids=[name for _, name in folders], indirect=True
    )


@pytest.fixture
def case(request, sama_golden: Path) -> Iterator[GoldenCase]:
    """A case of `golden_cases`; a test that leaves one of its outputs uncompared fails."""
    from safetensors.torch import load_file

    topic, name = request.param
    (folder,) = (one for one in golden_folders(sama_golden, topic) if one.name == name or not name)
    tensors = [
        load_file(path) if (path := folder / f"{part}.safetensors").exists() else {}
        for part in ("inputs", "outputs", "weights")
    ]
    read = GoldenCase(json.loads((folder / "meta.json").read_text()), *tensors)
    yield read
    left = set(read.outputs) - read.compared
    assert not left, f"{topic}/{name}: not compared: {sorted(left)}"


def released_spatial(s: Mapping[str, int]) -> SpatialQFormer:
    return SpatialQFormer(
        s["D"], s["E"], s["h"], s["heads"], s["inter"], s["sp_layers"], s["sp_freq"], s["sp_q"]
    )


def released_modules(s: Mapping[str, int], text_layers: int | None = None) -> nn.ModuleDict:
    """Aggregator and region encoder in released form, with the sizes of a golden case."""
    h = s["h"]
    aggregator = SamaAggregator(
        spatial=released_spatial(s),
        question=WordpieceQuestion(s["vocab"], h, s["maxpos"]),
        temporal=TemporalQFormer(h, s["heads"], s["inter"], s["tp_layers"], s["tp_q"], text_layers),
        inject=ContextInjection(s["D"], h),
        output=nn.Identity(),
        window=s["window"],
        stride=s["stride"],
    )
    region = SamaRegionEncoder(s["D"], h, s.get("shape_grid", 112), s["mlp_hid"])
    return nn.ModuleDict({"aggregator": aggregator, "region": region}).eval()


def load(modules: nn.Module, case: GoldenCase, *parts: str) -> None:
    """Fill the parameters under `parts` with the weights of the case, which has them all."""
    empty = {n: p for n, p in modules.named_parameters() if n.startswith(parts)}
    for name, weight in case.weights.items():
        parameter = empty.pop(our_name(name) or "", None)
        if parameter is not None:
            assert parameter.shape == weight.shape, name
            parameter.data.copy_(weight)
    assert [name for name in empty if released_name(name) is not None] == []
