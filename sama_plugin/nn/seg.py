"""From the final hidden state at [SEG] to a prompt vector of the segmenter.

Its two layers are the released `text_hidden_fcs`. Released models give every keyframe the same
vector, so the vector cannot say that a thing is on the left at first and on the right later. With
`moments` the head also hears when the keyframe is: a feature-wise scale and shift of its hidden
layer, which starts at none, so an imported head computes what it did. Where the thing is comes from
`pointing.py`.
"""

from __future__ import annotations

import math
from typing import Optional

import torch
from torch import Tensor, nn

WAVES = 6


class SegHead(nn.Sequential):
    """Linear, ReLU, Linear: (S, C) hidden states to (S, prompt_dim) prompt vectors.

    Args:
        width: C of the language model.
        prompt_dim: width of the segmenter's prompt tokens (256 for SAM 2).
        moments: whether the hidden layer hears the keyframe's place in the clip.
    """

    def __init__(self, width: int, prompt_dim: int, moments: bool = False):
        super().__init__(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, prompt_dim))
        self.film = nn.Linear(2 * WAVES + 1, 2 * width) if moments else None
        if moments:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, states: Tensor, moment: Optional[Tensor] = None) -> Tensor:
        """Prompt vectors (S, prompt_dim).

        Args:
            states: (S, C) final hidden states at [SEG].
            moment: (S,) place of the keyframe in its clip, from 0 (first frame) to 1 (last).
        """
        first, relu, second = (self[number] for number in range(3))
        hidden = first(states)  # (S, C)
        if self.film is not None:
            scale, shift = self.film(waves(moment).to(hidden.dtype)).chunk(2, dim=-1)
            hidden = hidden * (1 + scale) + shift
        return second(relu(hidden))


def waves(moment: Tensor) -> Tensor:
    """(S,) in [0, 1] to (S, 2 WAVES + 1): the value, and sines and cosines of halving periods."""
    angle = math.pi * moment.float()[:, None] * 2.0 ** torch.arange(WAVES, device=moment.device)
    return torch.cat([moment.float()[:, None], angle.sin(), angle.cos()], dim=-1)
