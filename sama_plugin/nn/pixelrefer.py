"""Region encoder of PixelRefer: the thing itself, enlarged, as up to n tokens (arXiv 2510.23603).

The crop around the thing goes through the host's vision tower like a frame of its own, so a small
thing is seen as sharply as a large one. Each covered cell of the crop's grid is told where it lies
in the frame (x, y), and the cells are clustered to n tokens; a thing of fewer cells keeps them all.
The published code mixes up x and y of that place and seeds its clusters at random; this one does
neither. Cells of several frames are clustered together.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn

from sama_plugin.nn.clustering import cluster
from sama_plugin.nn.merging import average
from sama_plugin.nn.pooling import mask_pool
from sama_plugin.nn.region import RegionTokens
from sama_plugin.nn.videorefer import QuestionRows, ResidualMlp, with_absent


class PixelReferRegionEncoder(nn.Module):
    """At most `cells` vectors a region, in reading order of their first cell.

    Args:
        width: C. hidden: h of the aggregator. shape_size, shape_hidden: as in `SamaRegionEncoder`.
        cells: n.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        shape_size: int,
        shape_hidden: int,
        cells: int,
    ):
        super().__init__()
        self.cells = cells
        self.place = nn.Linear(2, width)
        self.feat_linear = ResidualMlp(width)
        self.rows = QuestionRows(width, hidden, shape_size, shape_hidden)
        self.absent = nn.Parameter(torch.randn(1, width) * 0.02)
        nn.init.zeros_(self.place.weight)
        nn.init.zeros_(self.place.bias)

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
        """Encode R regions seen on M crops.

        Args:
            features: (NF, N, C) visual tokens of all frames and crops.
            entry_row: (M,) long into NF, the crop.
            entry_weights: (M, N) float, positive at the cells that the thing covers.
            entry_shape: (M, s, s) float, the mask in the whole frame, resized.
            entry_owner: (M,) long into R, ascending.
            entry_place: (M, N, 2) float, (x, y) of every cell's centre in the frame, 0 to 1; None
                only without entries.
        """
        entry, cell = (entry_weights > 0).nonzero(as_tuple=True)  # (K,), (K,)
        owner = entry_owner[entry]
        if entry_place is None:
            entry_place = features.new_zeros(*entry_weights.shape, 2)
        where = 2 * entry_place[entry, cell] - 1  # (K, 2)
        cells = features[entry_row[entry], cell] + self.place(where.to(features.dtype))  # (K, C)
        group = cluster(cells.detach(), owner, regions, self.cells)  # (K,)
        merged = average(cells, group)  # (X, C)
        of_group = owner.new_zeros(merged.shape[0]).index_copy(0, group, owner)  # (X,)
        tokens = with_absent(self.feat_linear(merged), of_group, self.absent, regions)
        pooled, area = mask_pool(features[entry_row], entry_weights)  # (M, C), (M,)
        rows = self.rows(pooled, area, entry_shape, entry_owner, regions)
        return RegionTokens(tokens, rows)


def build_pixelrefer(config: Any, width: int, hidden: int) -> PixelReferRegionEncoder:
    """Sizes from a `RegionConfig`."""
    return PixelReferRegionEncoder(
        width, hidden, config.shape_size, config.shape_hidden, config.cells
    )
