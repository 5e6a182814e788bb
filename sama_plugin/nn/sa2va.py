"""Region encoder of Sa2VA: no encoder at all, every visual token under the mask as it is.

The mask is resized to the grid by nearest neighbour and the covered cells are read row by row
(`data/regions.py`), so a region has as many tokens as it covers cells. There is nothing to train,
and nothing for an aggregator, which Sa2VA does not have.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn

from sama_plugin.nn.region import RegionTokens


class Sa2vaRegionEncoder(nn.Module):
    """Copies visual tokens.

    Args:
        hidden: h, width of the (empty) rows for an aggregator.
    """

    def __init__(self, hidden: int):
        super().__init__()
        self.register_buffer("no_rows", torch.zeros(2, hidden), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the module, as it was cast last; it has no parameters."""
        return self.no_rows.dtype

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
        """Tokens (X, C) of R regions, region by region, frame by frame, row by row.

        Args:
            features: (NF, N, C) visual tokens of all frames.
            entry_row: (M,) long into NF.
            entry_weights: (M, N) float, positive at covered cells.
            entry_owner: (M,) long into R, ascending.
        """
        entry, cell = (entry_weights > 0).nonzero(as_tuple=True)  # (X,), (X,)
        tokens = features[entry_row[entry], cell]  # (X, C)
        return RegionTokens(tokens, self.no_rows.expand(regions, -1, -1))


def build_sa2va(config: Any, width: int, hidden: int) -> Sa2vaRegionEncoder:
    """Nothing to size."""
    return Sa2vaRegionEncoder(hidden)
