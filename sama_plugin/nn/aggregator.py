"""Spatio-temporal context aggregator: one vector for each (prompt, frame) (SAMA section 3).

    frames (NF, N, C) ─► spatial Q-Former ─► (NF, Qs, h) ─┐
    question (P, L, .) + region rows ────────────────────┴► temporal Q-Former ─► context (A, Q, h)
    frames + context ─► context injection ─► context tokens (X, C)

A video may hold many frames and the host reads few; the context tokens tell it about all of them,
with this turn's question in mind. Used by `model/sama.py`; variants join the registry below.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn

from sama_plugin.nn.focus import Focus
from sama_plugin.nn.injection import ContextInjection
from sama_plugin.nn.layout import lay_out
from sama_plugin.nn.question import HostQuestion, WordpieceQuestion, write_region_rows
from sama_plugin.nn.spatial import SpatialQFormer, TimeEmbedding
from sama_plugin.nn.temporal import TemporalQFormer
from sama_plugin.registry import Registry

AGGREGATORS = Registry(
    "aggregators",
    {
        "sama": "sama_plugin.nn.aggregator:build_sama_aggregator",
        "none": "sama_plugin.nn.aggregator:build_no_aggregator",
    },
)
QUESTIONS = Registry(
    "question_readers",
    {
        "host": "sama_plugin.nn.aggregator:build_host_question",
        "wordpiece": "sama_plugin.nn.aggregator:build_wordpiece_question",
    },
)
RELEASED_VOCABULARY = 30530  # BERT uncased and eight added word pieces
RELEASED_POSITIONS = 512


class SamaAggregator(nn.Module):
    """The pipeline above; all samples and prompts of a batch in one pass.

    Args:
        spatial, question, temporal, inject, output: the parts, called once each in this order.
        window, stride: of the temporal Q-Former, in vectors.
        focus: where context tokens start from; None for the frame's mean, as released.
    """

    def __init__(
        self,
        spatial: SpatialQFormer,
        question: nn.Module,
        temporal: TemporalQFormer,
        inject: ContextInjection,
        output: nn.Module,
        window: int,
        stride: int,
        focus: Optional[Focus] = None,
    ):
        super().__init__()
        self.spatial, self.question, self.temporal = spatial, question, temporal
        self.focus, self.inject, self.output = focus, inject, output
        self.window, self.stride = window, stride

    def forward(
        self,
        features: Tensor,
        frame_owner: Tensor,
        frame_time: Tensor,
        prompt_owner: Tensor,
        question: Tensor,
        question_mask: Tensor,
        question_kind: Tensor,
        region_rows: Tensor,
        spatial: Optional[Tensor] = None,
        row_bias: Optional[Tensor] = None,
        sought: Optional[Tensor] = None,
    ) -> Tensor:
        """Context tokens of every prompt about every frame of its sample.

        Args:
            features: (NF, N, C) visual tokens of the aggregator's frames, samples ascending.
            frame_owner: (NF,) long, sample of each frame. frame_time: (NF,) float seconds.
            prompt_owner: (P,) long, sample of each prompt, ascending.
            question: (P, L, C) host embeddings, or (P, L) word-piece ids.
            question_mask: (P, L) bool. question_kind: (P, L) long, see `question.py`.
            region_rows: (R, 2, h) in text order.
            spatial: (NF, Qs, h) kept from an earlier `spatial` call on the same frames.
            row_bias: (P, h), see `released.py`.
            sought: (P, C) what the prompts' regions look like, see `focus.py`; read by a focus.

        Returns:
            (X, C), prompt-major, then frames in order.
        """
        vectors = self.spatial(features, frame_time) if spatial is None else spatial
        layout = lay_out(frame_owner, prompt_owner, vectors.shape[1], self.window, self.stride)
        rows = write_region_rows(self.question(question), question_kind, region_rows)  # (P, L, h)
        context = self.temporal(rows, question_mask, vectors, layout, row_bias)  # (A, Q, h)
        start = None
        if self.focus is not None:
            start = self.focus(features, context, layout, sought)  # (X, C)
        return self.output(self.inject(features, context, layout, start))

    def count(self, batch: Any) -> int:
        """Number of context tokens `forward` will give for a `SamaBatch`."""
        frames = torch.bincount(batch.frame_owner[batch.aggregator_rows], minlength=batch.samples)
        return int(frames[batch.prompt_owner].sum())


class AggregatorNone(nn.Module):
    """No context tokens and no parameters."""

    def spatial(self, features: Tensor, times: Tensor) -> Tensor:
        """(NF, 0, 0): nothing to keep."""
        return features.new_zeros(features.shape[0], 0, 0)

    def forward(self, features: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(0, C)."""
        return features.new_zeros(0, features.shape[-1])

    def count(self, batch: Any) -> int:
        """Zero."""
        return 0


def build_aggregator(config: Any, width: int, output_scale: Optional[float] = None) -> nn.Module:
    """The aggregator `config.kind` names, for a host of width C.

    Args:
        config: an `AggregatorConfig`.
        output_scale: size of the host's embeddings, see `output_norm`; None as released.
    """
    return AGGREGATORS.get(config.kind)(config, width, output_scale)


def output_norm(width: int, scale: Optional[float]) -> nn.Module:
    """LayerNorm whose learned gain starts at `scale`, the standard deviation of the host's input
    embeddings, so that context tokens have the host's size; the identity when `scale` is None.
    """
    if scale is None:
        return nn.Identity()
    norm = nn.LayerNorm(width)
    nn.init.constant_(norm.weight, scale)
    return norm


def build_no_aggregator(config: Any, width: int, output_scale: Optional[float]) -> AggregatorNone:
    """For `kind: none`."""
    return AggregatorNone()


def build_sama_aggregator(config: Any, width: int, output_scale: Optional[float]) -> SamaAggregator:
    """Sizes from an `AggregatorConfig`."""
    h, heads, ffn = config.hidden, config.heads, config.ffn
    return SamaAggregator(
        spatial=SpatialQFormer(
            width,
            config.encoder_width,
            h,
            heads,
            ffn,
            config.spatial_layers,
            config.cross_frequency,
            config.spatial_queries,
            TimeEmbedding(h) if config.time_embedding else None,
        ),
        question=QUESTIONS.get(config.question)(config, width),
        temporal=TemporalQFormer(h, heads, ffn, config.temporal_layers, config.temporal_queries),
        inject=ContextInjection(width, h),
        output=output_norm(width, output_scale),
        window=config.window,
        stride=config.stride,
        focus=Focus(width, h) if config.focus else None,
    )


def build_host_question(config: Any, width: int) -> HostQuestion:
    """For `question: host`."""
    return HostQuestion(width, config.hidden, config.max_question)


def build_wordpiece_question(config: Any, width: int) -> WordpieceQuestion:
    """For `question: wordpiece`, as released."""
    return WordpieceQuestion(RELEASED_VOCABULARY, config.hidden, RELEASED_POSITIONS)
