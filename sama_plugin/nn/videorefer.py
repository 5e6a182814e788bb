"""Region encoder of VideoRefer: how a thing looks, and how that changes (paper, section 3.2).

Spatial token extractor: the area-weighted mean of the visual tokens under each frame's mask.
Temporal token merge: frames on which it looks alike are averaged, so that a thing seen on k frames
is min(u, k) tokens. Frames on which it is absent are left out; one that is nowhere is a learned
"absent" vector. `videorefer_released.py` keeps the published behaviour, which collapses when a
frame is empty.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn

from sama_plugin.nn.merging import merge_similar
from sama_plugin.nn.pooling import has_entry, mask_pool, merge_frames
from sama_plugin.nn.region import RegionTokens, ShapeEncoder


class VideoReferRegionEncoder(nn.Module):
    """At most `unions` vectors a region, in time order.

    Args:
        width: C. hidden: h of the aggregator. shape_size, shape_hidden: as in `SamaRegionEncoder`.
        unions: u.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        shape_size: int,
        shape_hidden: int,
        unions: int,
    ):
        super().__init__()
        self.unions = unions
        self.feat_linear = ResidualMlp(width)
        self.rows = QuestionRows(width, hidden, shape_size, shape_hidden)
        self.absent = nn.Parameter(torch.randn(1, width) * 0.02)

    @property
    def dtype(self) -> torch.dtype:
        """Compute type: that of the parameters."""
        return self.absent.dtype

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
        """Arguments as in `SamaRegionEncoder.forward`; entries of a region in time order, regions
        ascending. `entry_place` is not read.
        """
        pooled, area = mask_pool(features[entry_row], entry_weights)  # (M, C), (M,)
        seen = area > 0
        merged, owner = merge_similar(pooled[seen], entry_owner[seen], regions, self.unions)
        tokens = with_absent(self.feat_linear(merged), owner, self.absent, regions)  # (X, C)
        rows = self.rows(pooled, area, entry_shape, entry_owner, regions)
        return RegionTokens(tokens, rows)


class ResidualMlp(nn.Sequential):
    """x + Linear(GELU(Linear(x))), starting as the identity: a new region token is a mean of visual
    tokens, which the host already understands.
    """

    def __init__(self, width: int):
        super().__init__(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        nn.init.zeros_(self[2].weight)
        nn.init.zeros_(self[2].bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """(X, C) to (X, C)."""
        return vectors + super().forward(vectors)


class QuestionRows(nn.Module):
    """What the aggregator's question says of a region: one visual and one shape row, as in SAMA.

    Args:
        width: C. hidden: h. shape_size, shape_hidden: of the shape MLP.
    """

    def __init__(self, width: int, hidden: int, shape_size: int, shape_hidden: int):
        super().__init__()
        self.visual = nn.Linear(width, hidden)
        self.shape = ShapeEncoder(shape_size, shape_hidden, hidden)
        self.absent = nn.Parameter(torch.randn(2, hidden) * 0.02)

    def forward(
        self, pooled: Tensor, area: Tensor, shapes: Tensor, owner: Tensor, regions: int
    ) -> Tensor:
        """Pooled vectors (M, C), areas (M,) and masks (M, s, s) of the entries to (R, 2, h)."""
        masks = shapes.to(self.absent.dtype)
        visual = self.visual(merge_frames(pooled, area, owner, regions))  # (R, h)
        shape = merge_frames(self.shape(masks), area, owner, regions)  # (R, h)
        rows = torch.stack([visual, shape], dim=1)  # (R, 2, h)
        return rows.where(has_entry(owner, regions)[:, None, None], self.absent)


def with_absent(tokens: Tensor, owner: Tensor, absent: Tensor, regions: int) -> Tensor:
    """Tokens (X, C) of regions `owner` (X,), and `absent` (1, C) for each region without any, in
    the order of the regions.
    """
    missing = (~has_entry(owner, regions)).nonzero()[:, 0]  # (A,)
    together = torch.cat([tokens, absent.to(tokens.dtype).expand(missing.shape[0], -1)])
    return together[torch.cat([owner, missing]).argsort(stable=True)]


def build_videorefer(config: Any, width: int, hidden: int) -> VideoReferRegionEncoder:
    """Sizes from a `RegionConfig`."""
    return VideoReferRegionEncoder(
        width, hidden, config.shape_size, config.shape_hidden, config.unions
    )
