"""VideoRefer's region encoder as published, to rerun its checkpoints.

Differs from `videorefer.py` where that one is right: frames without the thing count as zero
vectors, and the cuts are made at similarities strictly below a threshold, so ties (and two empty
frames are enough for one) leave fewer tokens, down to a single one. How many there are is known
only after the vision tower, so it exists in sessions and golden tests, never in training.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sama_plugin.nn.merging import average
from sama_plugin.nn.pooling import mask_pool
from sama_plugin.nn.region import RegionTokens
from sama_plugin.nn.videorefer import QuestionRows


class ReleasedVideoReferEncoder(nn.Module):
    """Pooled vectors, merged by threshold, through Linear, GELU, Linear.

    Args:
        vision: width of the visual tokens. width: C of the host.
        hidden, shape_size, shape_hidden: of the aggregator's rows, which the release does not have.
        unions: u, above which frames are merged.
    """

    def __init__(
        self,
        vision: int,
        width: int,
        hidden: int,
        shape_size: int,
        shape_hidden: int,
        unions: int,
    ):
        super().__init__()
        self.unions = unions
        self.feat_linear = nn.Sequential(
            nn.Linear(vision, width), nn.GELU(), nn.Linear(width, width)
        )
        self.rows = QuestionRows(vision, hidden, shape_size, shape_hidden)

    @property
    def dtype(self) -> torch.dtype:
        """Compute type: that of the parameters."""
        return self.feat_linear[0].weight.dtype

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
        """As `VideoReferRegionEncoder.forward`, with weights of 0 and 1."""
        pooled, area = mask_pool(features[entry_row].float(), entry_weights)  # (M, C), (M,)
        lengths = torch.bincount(entry_owner, minlength=regions)[:regions].tolist()
        merged = [merge_by_threshold(one, self.unions) for one in pooled.split(lengths)]
        merged = torch.cat([pooled[:0], *merged]).to(self.dtype)  # (X, C)
        pooled = pooled.to(self.dtype)
        rows = self.rows(pooled, area, entry_shape, entry_owner, regions)
        return RegionTokens(self.feat_linear(merged), rows)

    def count(self, features: Tensor, weights: Tensor) -> int:
        """Tokens of one region seen on frames `features` (k, N, C) under `weights` (k, N)."""
        pooled, _ = mask_pool(features.float(), weights)
        return len(merge_by_threshold(pooled, self.unions))


def merge_by_threshold(vectors: Tensor, most: int) -> Tensor:
    """(k, C) in time order to (n, C): cuts between neighbours whose similarity is below the
    (k - most)-th largest one; all of them if k <= most.
    """
    surplus = vectors.shape[0] - most
    if surplus <= 0:
        return vectors
    alike = F.cosine_similarity(vectors[1:], vectors[:-1], dim=-1)  # (k - 1,)
    threshold = alike.topk(surplus).values[-1]
    cut = torch.cat([alike.new_zeros(1, dtype=torch.bool), alike < threshold])
    return average(vectors, cut.long().cumsum(0))


def build_released_videorefer(config: Any, width: int, hidden: int) -> ReleasedVideoReferEncoder:
    """Sizes from a `RegionConfig`."""
    return ReleasedVideoReferEncoder(
        width, width, hidden, config.shape_size, config.shape_hidden, config.unions
    )
