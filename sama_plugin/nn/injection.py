"""Temporal context injection: one vector for each (prompt, frame), in the host's width C.

Literal form, for a frame's tokens F_t (N, C) and a prompt's context G (M, h), one head of width C:

    C_t = Wp softmax((Wq F_t + bq) (Wk G + bk)' / sqrt C) (Wv G + bv) + bp + F_t
    s_t = Wf mean_over_tokens(C_t) + bf

Only the token mean of C_t is used, so the same value is had without any (N, C) temporary:
the attention rows are averaged first, a = mean_n softmax(...), and values and outputs are computed
once a frame: s_t = Wf (Wp (Wv (a G) + bv) + bp + mean(F_t)) + bf, because a sums to one. The query
projection is folded into the M keys: <Wq f + bq, k> = <f, Wq' k> + <bq, k>.
`benchmarks/context_injection.py` measures both.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sama_plugin.nn.layout import ContextLayout


class ContextInjection(nn.Module):
    """Frames read a prompt's context; the mean over their tokens is the context token.

    The last projection starts as the identity: a new context token is the frame's mean visual token
    plus what was read, which is a direction the host already understands.

    Args:
        width: C. hidden: h.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.query = FoldedQuery(width, width)
        self.key = nn.Linear(hidden, width)
        self.value = nn.Linear(hidden, width)
        self.project = nn.Linear(width, width)
        self.final = nn.Linear(width, width)
        nn.init.eye_(self.final.weight)
        nn.init.zeros_(self.final.bias)

    def forward(
        self,
        features: Tensor,
        context: Tensor,
        layout: ContextLayout,
        start: Optional[Tensor] = None,
    ) -> Tensor:
        """Visual tokens (NF, N, C) and context (A, Q, h) of the readings to (X, C) of the pairs.

        start: (X, C) in place of the frames' mean tokens, see `focus.py`.
        """
        keys, offsets = self.query(self.key(context))  # (A, Q, C), (A, Q)
        read = []
        for span in layout.samples:
            keys_here, offsets_here = span.by_prompt(keys), span.by_prompt(offsets)
            shares = mean_attention(features[span.frames], keys_here, offsets_here)  # (P, F, M)
            mixed = shares.to(context.dtype) @ span.by_prompt(context)  # (P, F, h)
            read.append(mixed.flatten(0, 1))
        if start is None:
            start = features.mean(1)[layout.pair_frame]  # (X, C)
        return self.final(self.project(self.value(torch.cat(read))) + start)  # (X, C)

    def literal(self, features: Tensor, context: Tensor) -> Tensor:
        """The literal form for one sample: (F, N, C) and (P, M, h) to (P, F, C). For comparison."""
        return self.final(self.injected(features, context).mean(2))

    def injected(self, features: Tensor, context: Tensor) -> Tensor:
        """C_t of the literal form, every token of every frame: (P, F, N, C)."""
        query = F.linear(features, self.query.weight, self.query.bias)  # (F, N, C)
        keys, values = self.key(context)[:, None], self.value(context)[:, None]  # (P, 1, M, C)
        scores = query @ keys.transpose(-1, -2) / query.shape[-1] ** 0.5  # (P, F, N, M)
        return self.project(scores.softmax(-1) @ values) + features  # (P, F, N, C)


class FoldedQuery(nn.Linear):
    """A query projection applied to the keys instead of the (many more) queries."""

    def forward(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (..., C) to folded keys (..., C) and score offsets (...,)."""
        return keys @ self.weight, keys @ self.bias


def mean_attention(features: Tensor, keys: Tensor, offsets: Tensor) -> Tensor:
    """Attention of each frame's tokens over each prompt's keys, averaged over the tokens.

    Args:
        features: (F, N, C). keys: (P, M, C). offsets: (P, M), added to the raw scores.

    Returns:
        (P, F, M) float32, rows sum to one.
    """
    prompts, length, width = keys.shape
    scores = features @ keys.flatten(0, 1).T + offsets.flatten()  # (F, N, P * M)
    scores = scores.unflatten(-1, (prompts, length)) / width**0.5  # (F, N, P, M)
    return scores.softmax(-1, dtype=torch.float32).mean(1).transpose(0, 1)
