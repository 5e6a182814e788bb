"""What a perfect eye would tell the decoder: visual tokens written down from a clip's facts.

Seeing and talking are learnt at the same time, each on its own core, because both know beforehand
what will lie between them. A visual token is a sum of fixed codes: the (first) embeddings of the
words for what its cell shows, sines of where that thing's centre is and of where the cell is. The
tower learns to produce these tokens from pixels (stage V); the decoder learns to talk about them
(stage L); then both are joined and go on together (stage VL). Used by `pretrain_host.py`.
"""

from __future__ import annotations

import torch
from torch import nn

from sama_plugin.miniworld.pretrain_vision import BINS, GRID, WORDS, Cells

SWAY = 0.15
"""Spread of the noise added to each token, relative to the token's own; an eye is never perfect."""


class FactCodes(nn.Module):
    """Fixed codes of one host, equal for equal seeds; `word_ids` are token ids by attribute."""

    def __init__(self, embedding: torch.Tensor, word_ids: dict[str, list[int]], seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        width = embedding.shape[1]
        embedding = embedding.detach()
        length = embedding.norm(dim=1).mean()
        for name, ids in word_ids.items():
            self.register_buffer(name, embedding[ids].clone(), persistent=False)
        for name, count in (("x", BINS), ("y", BINS), ("column", GRID), ("row", GRID)):
            self.register_buffer(name, _waves(count, width, length, generator), persistent=False)
        flags = torch.randn(2, width, generator=generator)
        flags = flags * length / flags.norm(dim=1, keepdim=True)
        self.register_buffer("flags", flags, persistent=False)

    def forward(self, cells: Cells) -> torch.Tensor:
        """Tokens (B, N, C) of B frames."""
        rows = torch.arange(GRID * GRID)
        own = self.row[rows // GRID] + self.column[rows % GRID]  # (N, C)
        shown = (cells.shape >= 0)[..., None].float()
        tokens = own + shown * self.flags[0] + cells.centre[..., None] * self.flags[1]
        for name in (*WORDS, "x", "y"):
            classes = getattr(cells, name)
            tokens = tokens + getattr(self, name)[classes.clamp(min=0)] * (classes >= 0)[..., None]
        return tokens

    def swayed(self, cells: Cells) -> torch.Tensor:
        """The same with noise."""
        tokens = self(cells)
        return tokens + SWAY * tokens.std() * torch.randn_like(tokens)


def _waves(count: int, width: int, length: float, generator: torch.Generator) -> torch.Tensor:
    """Sines and cosines of 0 ... count - 1 at eight rates, each in a random plane: (count, C)."""
    rates = torch.pi / torch.logspace(0, 1, 8, base=2 * count)  # periods from 2 to 4 count
    turns = torch.arange(count)[:, None] * rates
    waves = torch.cat([turns.sin(), turns.cos()], -1) / 8**0.5  # (count, 16), rows of norm 1
    planes, _ = torch.linalg.qr(torch.randn(width, 16, generator=generator))
    return length * waves @ planes.T
