"""Spatial Q-Former: each frame's N visual tokens become Qs vectors (SAMA section 3).

It does not read the question, so its result is kept for a whole video. Frames are independent; an
optional time embedding tells the temporal Q-Former when each frame was (the released model has
none and cannot know the order of frames).
"""

from __future__ import annotations

import math
from typing import Optional

import torch
from torch import Tensor, nn

from sama_plugin.nn.qformer import QFormer, learned_queries


class SpatialQFormer(nn.Module):
    """Projection to the Q-Former's encoder width, LayerNorm, Q-Former over learned queries.

    Args:
        width: C of the visual tokens.
        encoder_width: E (1408 released, to fit InstructBLIP's weights).
        hidden, heads, ffn, layers, cross_frequency: sizes of the Q-Former.
        queries: Qs vectors a frame.
        time: embedding of the frame's time, or None.
    """

    def __init__(
        self,
        width: int,
        encoder_width: int,
        hidden: int,
        heads: int,
        ffn: int,
        layers: int,
        cross_frequency: int,
        queries: int,
        time: Optional[TimeEmbedding] = None,
    ):
        super().__init__()
        self.project = nn.Linear(width, encoder_width)
        self.norm = nn.LayerNorm(encoder_width)
        self.queries = learned_queries(queries, hidden)
        self.qformer = QFormer(layers, hidden, heads, ffn, encoder_width, cross_frequency, 0)
        self.time = time

    def forward(self, features: Tensor, times: Tensor) -> Tensor:
        """Visual tokens (NF, N, C) at `times` (NF,) seconds to frame vectors (NF, Qs, h)."""
        memory = self.norm(self.project(features))  # (NF, N, E)
        queries = self.queries.expand(features.shape[0], -1, -1)  # (NF, Qs, h)
        vectors = self.qformer(queries, queries.shape[1], memory)  # (NF, Qs, h)
        return vectors if self.time is None else vectors + self.time(times)[:, None]


class TimeEmbedding(nn.Module):
    """Seconds to a vector: sines and cosines of many periods through a linear layer.

    Periods run geometrically from `shortest` to `longest` seconds, so that neighbouring frames of
    a fast clip and the ends of an hour-long video can both be told apart, without any clip length.
    """

    def __init__(
        self, hidden: int, waves: int = 32, shortest: float = 0.25, longest: float = 8192.0
    ):
        super().__init__()
        self.waves, self.shortest, self.longest = waves, shortest, longest
        self.project = nn.Linear(2 * waves, hidden)

    def forward(self, times: Tensor) -> Tensor:
        """(NF,) float seconds to (NF, h)."""
        exponent = torch.linspace(0, 1, self.waves, device=times.device)
        periods = self.shortest * (self.longest / self.shortest) ** exponent  # (waves,)
        angle = 2 * math.pi * times.float()[:, None] / periods  # (NF, waves)
        waves = torch.cat([angle.sin(), angle.cos()], dim=-1)  # (NF, 2 waves)
        return self.project(waves.to(self.project.weight.dtype))
