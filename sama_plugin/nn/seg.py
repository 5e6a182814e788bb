"""From the final hidden state at [SEG] to a prompt vector of the segmenter (released
`text_hidden_fcs`).
"""

from __future__ import annotations

from torch import nn


class SegHead(nn.Sequential):
    """Linear, ReLU, Linear, Dropout: (S, C) hidden states to (S, prompt_dim) prompt vectors.

    Args:
        width: C of the language model.
        prompt_dim: width of the segmenter's prompt tokens (256 for SAM 2).
        dropout: probability; 0 by default, as released.
    """

    def __init__(self, width: int, prompt_dim: int, dropout: float = 0.0):
        super().__init__(
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, prompt_dim),
            nn.Dropout(dropout),
        )
