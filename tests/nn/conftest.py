"""Golden cases of the reference implementation, and small modules to compare with them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from sama_plugin.nn.aggregator import SamaAggregator
from sama_plugin.nn.injection import ContextInjection
from sama_plugin.nn.names import load_released
from sama_plugin.nn.question import WordpieceQuestion
from sama_plugin.nn.region import SamaRegionEncoder
from sama_plugin.nn.spatial import SpatialQFormer
from sama_plugin.nn.temporal import TemporalQFormer


@dataclass
class GoldenCase:
    """One folder of a golden topic."""

    meta: Mapping[str, Any]
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]

    def close(self, actual: Tensor, name: str) -> None:
        """Compare with an output, within the tolerance recorded with the case."""
        tolerance = self.meta["tolerance"]
        torch.testing.assert_close(
            actual,
            self.outputs[name].to(actual.dtype),
            atol=tolerance["atol"],
            rtol=tolerance["rtol"],
            msg=lambda text: f"{name}: {text}",
        )

    def sizes(self, **missing: int) -> dict[str, int]:
        """The recorded sizes, `missing` ones filled in."""
        return {**missing, **self.meta["hyper"]}


@pytest.fixture
def golden(sama_golden: Path) -> Callable[[str, str], GoldenCase]:
    def read(topic: str, case: str) -> GoldenCase:
        from safetensors.torch import load_file

        folder = sama_golden / topic / case
        tensors = [
            load_file(path) if (path := folder / f"{part}.safetensors").exists() else {}
            for part in ("inputs", "outputs", "weights")
        ]
        return GoldenCase(json.loads((folder / "meta.json").read_text()), *tensors)

    return read


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
    region = SamaRegionEncoder(s["D"], h, 112, s["mlp_hid"])
    return nn.ModuleDict({"aggregator": aggregator, "region": region}).eval()


def load(modules: nn.Module, case: GoldenCase, *parts: str) -> None:
    """Fill the parameters under `parts` with the weights of the case."""
    load_released(modules, case.weights, parts)
