"""Plain matrix attention in 16 bit, for training the mini on a CPU.

With heads of width 32 and a few hundred tokens, PyTorch's CPU flash kernel costs two to four times
a plain softmax of matrix products in bfloat16 (measured on an AVX-512 core: 78 against 49 ms for 8
x 6 heads x 520 tokens, forward and backward). Registered with transformers under NAME; causal or
full by the module's own flag, and blind to padding masks, so rows must be padded on the right. Used
by the host's pre-training and by lessons; models keep the stock kernels when they are loaded.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

NAME = "mini_matrix"


def matrix_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """(B, H, L, D) queries, (B, G, L, D) keys and values -> (B, L, H, D); queries of a group share
    one product.
    """
    batch, heads, length, width = query.shape
    groups = key.shape[1]
    query = (query * scaling).reshape(batch, groups, -1, width)  # (B, G, H/G * L, D)
    scores = query @ key.transpose(2, 3)  # (B, G, H/G * L, L)
    if module.is_causal:
        scores = scores.view(batch, groups, -1, length, length) + _causal(length, scores.dtype)
    out = scores.view(batch, groups, -1, length).softmax(-1) @ value  # (B, G, H/G * L, D)
    return out.view(batch, heads, length, width).transpose(1, 2).contiguous(), None


def matrix_attention_name() -> str:
    """The name by which transformers now knows `matrix_attention`."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, matrix_attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
    return NAME


def use_matrix_attention(model: nn.Module) -> None:
    """Switch vision tower and decoder of a native InternVL to `matrix_attention`."""
    model.set_attn_implementation(matrix_attention_name())


@lru_cache(maxsize=64)
def _causal(length: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full((length, length), -3e4, dtype=dtype).triu(1)
