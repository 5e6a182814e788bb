"""Temporal Q-Former: what the frames say about each question (SAMA section 3).

Rows are [Q learned queries ; question rows]; the queries read the frame vectors window by window.
The results of a prompt's windows, one after the other, are its context.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor, nn

from sama_plugin.nn.layout import ContextLayout
from sama_plugin.nn.qformer import QFormer, learned_queries


class TemporalQFormer(nn.Module):
    """Q-Former over queries and question rows, cross-attending in every layer.

    Args:
        hidden, heads, ffn, layers: sizes of the Q-Former.
        queries: Q, context vectors for each window.
        text_layers: layers with a text feed-forward; by default all but the last, whose text rows
            nobody reads.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        ffn: int,
        layers: int,
        queries: int,
        text_layers: Optional[int] = None,
    ):
        super().__init__()
        text_layers = layers - 1 if text_layers is None else text_layers
        self.queries = learned_queries(queries, hidden)
        self.qformer = QFormer(layers, hidden, heads, ffn, hidden, 1, text_layers)

    def forward(
        self,
        question_rows: Tensor,
        question_mask: Tensor,
        vectors: Tensor,
        layout: ContextLayout,
        row_bias: Optional[Tensor] = None,
    ) -> Tensor:
        """Context of every reading.

        Args:
            question_rows: (P, L, h) with region rows written in.
            question_mask: (P, L) bool.
            vectors: (NF, Qs, h) of all frames.
            row_bias: (P, h) added to every row of a prompt; only `released.py` needs it.

        Returns:
            (A, Q, h) for the A (prompt, window) readings of `layout`.
        """
        prompts, queries = question_rows.shape[0], self.queries.shape[1]
        rows = torch.cat([self.queries.expand(prompts, -1, -1), question_rows], dim=1)
        rows = rows if row_bias is None else rows + row_bias[:, None]  # (P, Q+L, h)
        real = question_mask.new_ones(prompts, queries)
        mask = torch.cat([real, question_mask], dim=1)  # (P, Q+L)
        memory = vectors.flatten(0, 1)[layout.window_vectors]  # (W, K, h)
        hidden = self.qformer(
            rows[layout.reading_prompt],
            queries,
            memory[layout.reading_window],
            mask[layout.reading_prompt],
            layout.window_mask[layout.reading_window],
        )
        return hidden[:, :queries]  # (A, Q, h)
