"""Vectors of the plugin's new token ids, as a module (design: "rows" tap).

Two instances: input rows and output rows. Absolute vectors, not differences to a host's table, so
that one checkpoint means the same on every host.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RowAdapter(nn.Module):
    """`rows` learned vectors of `width`.

    `forward()` returns the weight: a sharding engine gathers parameters only around a forward, so
    reading `.weight` directly would find an empty shard there.
    """

    def __init__(self, rows: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self) -> Tensor:
        """(rows, width)."""
        return self.weight
