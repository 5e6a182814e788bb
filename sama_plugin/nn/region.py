"""Region encoder: what the user points at becomes two vectors (SAMA section 3).

The pooled visual vector is the area-weighted mean of the visual tokens under the mask; the shape
vector reads the mask itself. Both exist twice: in the host's width, as the region's tokens in the
text, and in the aggregator's width, as rows of the question. A region on several frames is the
area-weighted mean over them; one without any valid frame is a learned "absent" vector.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from sama_plugin.nn.pooling import has_entry, mask_pool, merge_frames
from sama_plugin.registry import Registry

REGION_ENCODERS = Registry(
    "region_encoders",
    {
        "sama": "sama_plugin.nn.region:build_sama_region_encoder",
        "videorefer": "sama_plugin.nn.videorefer:build_videorefer",
        "videorefer-released": "sama_plugin.nn.videorefer_released:build_released_videorefer",
        "pixelrefer": "sama_plugin.nn.pixelrefer:build_pixelrefer",
        "sa2va": "sama_plugin.nn.sa2va:build_sa2va",
    },
)


class RegionTokens(NamedTuple):
    """Vectors of R regions; in the aggregator's rows index 0 of the second axis is the visual
    vector, 1 the shape vector, and so it is in the tokens of `sama`.

    A tuple, because ZeRO-3 looks into tuples, but not into dataclasses, for the outputs before
    whose backward pass it gathers a module's own parameters.
    """

    tokens: Tensor  # (R, 2, C) for the host, or (X, C) where regions differ in their number
    aggregator_rows: Tensor  # (R, 2, h) for the temporal Q-Former


class SamaRegionEncoder(nn.Module):
    """Pooled visual vector and shape vector of each region.

    The host's visual projection starts as the identity: a new region token is the mean of visual
    tokens, which the host already understands.

    Args:
        width: C. hidden: h of the aggregator.
        shape_size: s, side of the resized mask (112 released).
        shape_hidden: inner width of the shape MLPs (1024 released).
    """

    def __init__(self, width: int, hidden: int, shape_size: int, shape_hidden: int):
        super().__init__()
        self.visual = nn.Linear(width, width)
        self.visual_rows = nn.Linear(width, hidden)
        self.shape = ShapeEncoder(shape_size, shape_hidden, width)
        self.shape_rows = ShapeEncoder(shape_size, shape_hidden, hidden)
        self.absent = nn.Parameter(torch.randn(2, width) * 0.02)
        self.absent_rows = nn.Parameter(torch.randn(2, hidden) * 0.02)
        nn.init.eye_(self.visual.weight)
        nn.init.zeros_(self.visual.bias)

    @property
    def dtype(self) -> torch.dtype:
        """Compute type: that of the parameters."""
        return self.visual.weight.dtype

    def forward(
        self,
        features: Tensor,
        entry_row: Tensor,
        entry_weights: Tensor,
        entry_shape: Tensor,
        entry_owner: Tensor,
        regions: int,
        entry_place: Optional[Tensor] = None,
    ) -> RegionTokens:
        """Encode R regions seen on M (region, frame) entries.

        Args:
            features: (NF, N, C) visual tokens of all frames.
            entry_row: (M,) long into NF.
            entry_weights: (M, N) float, covered area of each visual cell.
            entry_shape: (M, s, s) float, the mask resized.
            entry_owner: (M,) long into R.
            regions: R.
            entry_place: not read here; `pixelrefer.py` needs it.
        """
        pooled, area = mask_pool(features[entry_row], entry_weights)  # (M, C), (M,)
        pooled = merge_frames(pooled, area, entry_owner, regions)  # (R, C)
        masks = entry_shape.to(self.dtype)
        shape, shape_rows = (
            merge_frames(encoder(masks), area, entry_owner, regions)  # (R, C) and (R, h)
            for encoder in (self.shape, self.shape_rows)
        )
        tokens = torch.stack([self.visual(pooled), shape], dim=1)  # (R, 2, C)
        rows = torch.stack([self.visual_rows(pooled), shape_rows], dim=1)  # (R, 2, h)
        seen = has_entry(entry_owner, regions)[:, None, None]  # (R, 1, 1)
        return RegionTokens(tokens.where(seen, self.absent), rows.where(seen, self.absent_rows))


class ShapeEncoder(nn.Module):
    """Three linear layers with ReLU between, on the flattened mask."""

    def __init__(self, size: int, hidden: int, width: int):
        super().__init__()
        self.size = size
        widths = (size * size, hidden, hidden, width)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))

    def forward(self, masks: Tensor) -> Tensor:
        """(M, s, s) to (M, width)."""
        first, second, third = self.layers
        return third(second(first(masks.flatten(1)).relu()).relu())


def build_region_encoder(
    config: Any, width: int, hidden: int, compat: str = "default"
) -> nn.Module:
    """The region encoder `config.kind` names, for a host of width C and an aggregator of width h.

    An encoder has `dtype` and the `forward` of `SamaRegionEncoder`. With `compat="released"` the
    one registered as "KIND-released" is taken, if there is one.
    """
    kind = f"{config.kind}-{compat}"
    kind = kind if kind in REGION_ENCODERS.names() else config.kind
    return REGION_ENCODERS.get(kind)(config, width, hidden)


def build_sama_region_encoder(config: Any, width: int, hidden: int) -> SamaRegionEncoder:
    """Sizes from a `RegionConfig`."""
    return SamaRegionEncoder(width, hidden, config.shape_size, config.shape_hidden)
