"""BERT-style Q-Former: learned query rows read a memory, and text rows ride along.

The rows are [queries ; text]. In every layer all rows attend to each other; then only the query
rows cross-attend to the memory (in layers i with i % cross_frequency == 0) and pass their own
feed-forward, while text rows pass theirs. Post-norm, exact GELU, eps 1e-12: numerically the
Q-Former of BLIP-2 / InstructBLIP, so released weights can be loaded (`names.py`).

A layer without text feed-forward hands on the query rows only. So the spatial Q-Former has none,
and the temporal one has none in its last layer, whose text rows nobody would read.

Attention is written out, not fused: it is deterministic forward and backward and takes
zero-length batches on every device. Used by `spatial.py` and `temporal.py`.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-12  # LayerNorm of BERT
HIDDEN_AWAY = -10000.0  # added to the score of a padded key


class QFormer(nn.Module):
    """Embedding LayerNorm and a stack of layers.

    Args:
        layers: number of layers.
        hidden: h, row width.
        heads: attention heads.
        ffn: inner width of the feed-forwards.
        memory_width: E, width of the memory that query rows cross-attend to.
        cross_frequency: layer i cross-attends if i % cross_frequency == 0.
        text_layers: the first so many layers have a text feed-forward; 0 when no text goes in.
    """

    def __init__(
        self,
        layers: int,
        hidden: int,
        heads: int,
        ffn: int,
        memory_width: int,
        cross_frequency: int,
        text_layers: int,
    ):
        super().__init__()
        self.norm = nn.LayerNorm(hidden, eps=EPS)
        self.layers = nn.ModuleList(
            QFormerLayer(
                Attention(hidden, heads, hidden),
                Attention(hidden, heads, memory_width) if i % cross_frequency == 0 else None,
                FeedForward(hidden, ffn),
                FeedForward(hidden, ffn) if i < text_layers else None,
            )
            for i in range(layers)
        )
        self.apply(_start_as_bert)

    def forward(
        self,
        rows: Tensor,
        queries: int,
        memory: Tensor,
        row_mask: Optional[Tensor] = None,
        memory_mask: Optional[Tensor] = None,
    ) -> Tensor:
        """Last hidden state.

        Args:
            rows: (B, Q+L, h) embedding rows, queries first.
            queries: Q.
            memory: (B, K, E).
            row_mask: (B, Q+L) bool, False where padded; None when nothing is padded.
            memory_mask: (B, K) bool, likewise.

        Returns:
            (B, Q, h), or (B, Q+L, h) if the last layer has a text feed-forward.
        """
        rows = self.norm(rows)
        row_bias, memory_bias = key_bias(row_mask, rows), key_bias(memory_mask, rows)
        for layer in self.layers:
            rows = layer(rows, queries, memory, row_bias, memory_bias)
        return rows


class QFormerLayer(nn.Module):
    """Self-attention of all rows, cross-attention of the queries, a feed-forward for each kind."""

    def __init__(
        self,
        attention: Attention,
        cross: Optional[Attention],
        query_ffn: FeedForward,
        text_ffn: Optional[FeedForward],
    ):
        super().__init__()
        self.attention, self.cross = attention, cross
        self.query_ffn, self.text_ffn = query_ffn, text_ffn

    def forward(
        self,
        rows: Tensor,
        queries: int,
        memory: Tensor,
        row_bias: Optional[Tensor],
        memory_bias: Optional[Tensor],
    ) -> Tensor:
        """(B, Q+L, h) to (B, Q+L, h), or to (B, Q, h) without text feed-forward."""
        readers = rows[:, :queries] if self.text_ffn is None else rows
        readers = self.attention(readers, rows, row_bias)
        query, text = readers[:, :queries], readers[:, queries:]  # (B, Q, h), (B, L, h)
        if self.cross is not None:
            query = self.cross(query, memory, memory_bias)
        query = self.query_ffn(query)
        return query if self.text_ffn is None else torch.cat([query, self.text_ffn(text)], dim=1)


class Attention(nn.Module):
    """Multi-head attention, output projection, residual and LayerNorm.

    Args:
        hidden: h, width of the reading rows and of the result.
        heads: number of heads.
        memory_width: width of the rows that are read.
    """

    def __init__(self, hidden: int, heads: int, memory_width: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(memory_width, hidden)
        self.value = nn.Linear(memory_width, hidden)
        self.dense = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden, eps=EPS)

    def forward(self, rows: Tensor, memory: Tensor, bias: Optional[Tensor] = None) -> Tensor:
        """(B, Lq, h) reads (B, Lk, E), bias (B, 1, 1, Lk) on the scores; returns (B, Lq, h)."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, L, h/heads)
            for part in (self.query(rows), self.key(memory), self.value(memory))
        )
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5  # (B, heads, Lq, Lk)
        if bias is not None:
            scores = scores + bias
        weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
        mixed = (weights @ value).transpose(1, 2).flatten(2)  # (B, Lq, h)
        return self.norm(self.dense(mixed) + rows)


class FeedForward(nn.Module):
    """Linear, exact GELU, Linear, residual and LayerNorm."""

    def __init__(self, hidden: int, ffn: int):
        super().__init__()
        self.inner = nn.Linear(hidden, ffn)
        self.outer = nn.Linear(ffn, hidden)
        self.norm = nn.LayerNorm(hidden, eps=EPS)

    def forward(self, rows: Tensor) -> Tensor:
        """(B, L, h) to (B, L, h)."""
        return self.norm(self.outer(F.gelu(self.inner(rows))) + rows)


def key_bias(mask: Optional[Tensor], like: Tensor) -> Optional[Tensor]:
    """(B, K) bool to the score bias (B, 1, 1, K): 0 where True, -10000 where padded."""
    if mask is None:
        return None
    return (~mask.bool()).to(like.dtype)[:, None, None] * HIDDEN_AWAY


def learned_queries(queries: int, hidden: int) -> nn.Parameter:
    """(1, Q, h) query rows, started as BERT starts its embeddings."""
    return nn.Parameter(torch.randn(1, queries, hidden) * 0.02)


def _start_as_bert(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
