"""Focus: the thing that was pointed at, found again in every frame.

Released SAMA starts a context token from the mean over the frame's tokens, in which a small thing
drowns. Here it starts from the tokens that look like the prompt's regions, wherever they are by
now; a prompt without regions starts from the mean, and learns from its context where to look. What
is read are the host's own visual tokens, so the host understands them before anything is learned,
where the thing is included. Used by `aggregator.py`; ours, not SAMA's.

On the packaged mini host the tokens found this way lie on the right thing in 0.95 of the weight,
untrained (held-out clips, thing visible, first frame to all others).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sama_plugin.nn.layout import ContextLayout
from sama_plugin.nn.pooling import mask_pool, merge_frames

SHARPNESS = 20.0
"""Scale of the cosine between a region and a token: 10 leaves a sixth of the weight elsewhere."""


class Focus(nn.Module):
    """One read of the frame's visual tokens for each (prompt, frame).

    Args:
        width: C. hidden: h.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.look = nn.Linear(width, width, bias=False)
        self.words = nn.Linear(hidden, width, bias=False)
        nn.init.eye_(self.look.weight)
        nn.init.zeros_(self.words.weight)

    def forward(
        self, features: Tensor, context: Tensor, layout: ContextLayout, sought: Tensor
    ) -> Tensor:
        """Read every frame for every prompt.

        Args:
            features: (NF, N, C) visual tokens. context: (A, Q, h) of the readings.
            sought: (P, C) what each prompt's regions look like, zeros where there are none.

        Returns:
            (X, C), a weighted mean of the frame's tokens for each pair of `layout`.
        """
        query = self.look(_direction(sought) * SHARPNESS)  # (P, C)
        words = self.words(context.mean(1, keepdim=True))  # (A, 1, C)
        found, first = [], 0
        for span in layout.samples:
            heard = span.by_prompt(words).sum(1) / max(1, span.windows)  # (P, C)
            frames = features[span.frames]
            shares = attention(query[first : first + span.prompts] + heard, frames)
            found.append(torch.einsum("pfn,fnc->pfc", shares, frames).flatten(0, 1))
            first += span.prompts
        return torch.cat(found)  # (X, C)


def attention(query: Tensor, features: Tensor) -> Tensor:
    """(P, F, N) shares of queries (P, C) among the tokens of each frame (F, N, C); they add up to
    one in a frame, and are equal for a query of zeros.
    """
    scores = torch.einsum("pc,fnc->pfn", query, _direction(features))
    return scores.softmax(-1, dtype=torch.float32).to(features.dtype)


def _direction(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1).to(vectors.dtype)


def sought(
    features: Tensor,
    entry_row: Tensor,
    entry_weights: Tensor,
    entry_owner: Tensor,
    region_prompt: Tensor,
    prompts: int,
) -> Tensor:
    """(P, C) mean look of each prompt's regions, zeros for a prompt without any.

    Args:
        features: (NF, N, C). entry_row, entry_weights, entry_owner: as for a region encoder.
        region_prompt: (R,) long, prompt of each region. prompts: P.
    """
    regions = region_prompt.shape[0]
    pooled, area = mask_pool(features[entry_row], entry_weights)  # (M, C), (M,)
    looks = merge_frames(pooled, area, entry_owner, regions)  # (R, C)
    return merge_frames(looks, looks.new_ones(regions), region_prompt, prompts)  # (P, C)
