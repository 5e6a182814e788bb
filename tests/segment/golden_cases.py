"""Golden cases of the segmenter: tiny models with the sizes of a case's `meta.json` and its
weights.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from sama_plugin.segment.base import Segmenter
from sama_plugin.segment.sam2 import Sam2Segmenter
from sama_plugin.segment.sam2_hf import HfSam2Segmenter
from sama_plugin.segment.sam2_hf_config import build_hf_sam2
from sama_plugin.segment.sam2_names import to_hf
from sama_plugin.segment.sizes import Sam2Sizes, build_sam2
from tests.conftest import golden_folders

SHARED = {
    "two_way_mlp_dim": 2048,
    "iou_head_hidden": 256,
    "fuser_layers": 2,
    "fpn_top_down_levels": [2, 3],
    "scalp": 1,
    "rope_theta": 10000.0,
    "backbone_stride": 16,
    "max_cond_frames_in_attn": -1,
    "max_obj_ptrs": 16,
}
"""What every released SAM2 has and no `Sam2Sizes` can change."""


@dataclass
class Case:
    """One folder: meta, inputs, outputs and weights by name."""

    name: str
    meta: dict
    inputs: dict
    outputs: dict
    weights: dict
    compared: set = field(default_factory=set)

    def close(self, found: torch.Tensor, name: str, atol: str = "atol") -> None:
        """Compare one visit or all of an output, within a recorded tolerance."""
        self.near(found, self.outputs[name], name, atol)

    def near(self, found, wanted, name: str, atol: str = "atol") -> None:
        """Compare with a part of an output, which counts as compared from now on."""
        self.compared.add(name)
        tolerance = self.meta["tolerance"]
        torch.testing.assert_close(
            found.to(wanted.dtype),
            wanted,
            atol=tolerance[atol],
            rtol=tolerance["rtol"],
            msg=lambda text: f"{self.name}: {name}: {text}",
        )

    def finish(self, *left_to_another_test: str) -> None:
        """Every output was compared, but for names with one of these endings."""
        left = {n for n in self.outputs if not n.endswith(left_to_another_test or "\n")}
        left -= self.compared
        assert not left, f"{self.name}: not compared: {sorted(left)}"


def cases(golden: Path, topic: str) -> list[Case]:
    """All case folders of a topic; more may be added without touching the tests."""
    return [
        Case(
            folder.name,
            json.loads((folder / "meta.json").read_text()),
            *(
                load_file(str(folder / f"{part}.safetensors"))
                for part in ("inputs", "outputs", "weights")
            ),
        )
        for folder in golden_folders(golden, topic)
    ]


def sizes_of(meta: dict) -> Sam2Sizes:
    hyper, flags = meta["hyper"], meta["sam2_flags"]
    other = {name: hyper[name] for name, value in SHARED.items() if hyper.get(name, value) != value}
    assert not other, f"no released SAM2 has {other}"
    return Sam2Sizes(
        generation="2.1" if flags.get("no_obj_embed_spatial") else "2.0",
        image_size=hyper["image_size"],
        embed_dim=hyper["embed_dim"],
        heads=hyper["heads"],
        stages=tuple(hyper["stages"]),
        global_blocks=tuple(hyper["global_att"]),
        windows=tuple(hyper["window_spec"]),
        background=tuple(hyper["bkg"]),
        width=hyper["d_model"],
        memory_width=hyper["mem_dim"],
        memory_layers=hyper["mem_layers"],
        memory_ffn=hyper["mem_ff"],
        memory_frames=hyper["num_maskmem"],
    )


def segmenter_of(case: Case, backend: str = "meta", **overrides: list) -> Segmenter:
    """The tiny segmenter of a case; `overrides` replace parameters by Meta's names."""
    state = {_meta_name(name): value for name, value in case.weights.items()}
    state = {name: value for name, value in state.items() if name is not None}
    for name, value in overrides.items():
        state[name] = torch.tensor(value).view_as(state[name])
    return BACKENDS[backend](sizes_of(case.meta), state)


def meta_backend(sizes: Sam2Sizes, state: dict) -> Sam2Segmenter:
    module = build_sam2(sizes)
    module.load_state_dict(state)
    return Sam2Segmenter("tiny", module)


def needs_sam2_video() -> None:
    """Skip, and say so, where transformers is older than its SAM2 video model."""
    if not hasattr(transformers, "Sam2VideoModel"):
        message = (
            f"transformers {transformers.__version__} has no Sam2VideoModel (4.56 has): the hf_ "
            "segmenters were NOT tested"
        )
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)


def hf_backend(sizes: Sam2Sizes, state: dict) -> HfSam2Segmenter:
    needs_sam2_video()
    module = build_hf_sam2(sizes)
    module.load_state_dict(to_hf(state))
    return HfSam2Segmenter("hf_tiny", module)


BACKENDS = {"meta": meta_backend, "hf": hf_backend}


def seg_head_of(case: Case) -> torch.nn.Sequential:
    """The [SEG] projection `text_hidden_fcs` of a case."""
    weights = {n: v for n, v in case.weights.items() if n.startswith("text_hidden_fcs.")}
    numbers = sorted({int(name.split(".")[-2]) for name in weights})
    layers = []
    for number in numbers:
        weight = next(v for n, v in weights.items() if n.endswith(f".{number}.weight"))
        bias = next(v for n, v in weights.items() if n.endswith(f".{number}.bias"))
        linear = torch.nn.Linear(*reversed(weight.shape))
        linear.load_state_dict({"weight": weight, "bias": bias})
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def _meta_name(name: str):
    if name.startswith("text_hidden_fcs."):
        return None
    for prefix in ("grounding_encoder.sam2_model.", "grounding_encoder."):
        if name.startswith(prefix):
            name = name[len(prefix) :]
    return name.replace(".g_weight", ".gamma")


class Frames:
    """A video reader over an array (T, H, W, 3) that counts what it hands out."""

    def __init__(self, frames: np.ndarray):
        self.array, self.read = frames, 0

    def __len__(self) -> int:
        return len(self.array)

    def frames(self, indices) -> np.ndarray:
        self.read += len(indices)
        return self.array[list(indices)]
