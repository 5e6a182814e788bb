"""What has to be found in context tokens while the aggregator is pre-trained; thrown away then.

Two readers look at the F tokens of a prompt. One is learned: an attention layer with linear heads
for facts, a linear layer for the cells of what is asked about in each frame. The other is fixed:
what a thing does has to lie along the host's own embeddings of the words that say it, so that a
language model finds the words of its answer in the tokens before it has learned anything. Three
more heads lead the parts on the way: where the focus looks, what the temporal Q-Former's vectors
say, and where the spatial Q-Former's vectors know each thing to be. Used by
`pretrain_aggregator.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sama_plugin.miniworld.aggregator_questions import CLASSES, UNKNOWN
from sama_plugin.miniworld.things import COLOURS, HISTORIES, SHAPES

MOTION_WORDS = (" left", " right", " up", " down", " still", " around", "circles", " returns")
"""The word of each of MOTIONS that no other motion is said with."""
HISTORY_WORDS = ("hides", " returns", "changes", " behind", " front")
"""The same of HISTORIES."""
HIDDEN = 128
FAINT = 1e-4


@dataclass
class Facts:
    """Targets of P prompts about F frames; UNKNOWN where there is nothing to know."""

    classes: dict[str, Tensor]  # (P,) long each
    history: Tensor  # (P, histories) long
    cover: Tensor  # (P, F, N) float, share of each cell that shows what is asked about


@dataclass
class Things:
    """Targets of the frames themselves: V visible (frame, thing) pairs."""

    frame: Tensor  # (V,) long
    look: Tensor  # (V, 2) long, colour and shape
    cover: Tensor  # (V, N) float


@dataclass
class Reading:
    """What the aggregator made on the way to its tokens."""

    tokens: Tensor  # (P, F, C) context tokens
    context: Tensor  # (P, Q * h) of the temporal Q-Former
    shares: Tensor  # (P, F, N) where the focus looks
    vectors: Tensor  # (NF, Qs, h) of the spatial Q-Former


class Readout(nn.Module):
    """All readers.

    Args:
        words: (W, C) host embeddings of MOTION_WORDS and HISTORY_WORDS. scale: of the host's
            embeddings. frames: F. context: Q * h. hidden: h. cells: N.
    """

    def __init__(
        self, words: Tensor, scale: float, frames: int, context: int, hidden: int, cells: int
    ):
        super().__init__()
        width = words.shape[1]
        self.scale = scale
        self.register_buffer("words", F.normalize(words - words.mean(0), dim=-1))
        self.sharpness = nn.Parameter(torch.tensor(1.0))
        self.leaning = nn.Parameter(torch.zeros(words.shape[0]))
        self.place = nn.Parameter(torch.randn(frames, HIDDEN) * 0.1)
        self.enter = nn.Linear(width, HIDDEN)
        self.query = nn.Parameter(torch.randn(1, 1, HIDDEN) * 0.5)
        self.attend = nn.MultiheadAttention(HIDDEN, 4, batch_first=True)
        self.heads = nn.ModuleDict({name: nn.Linear(HIDDEN, n) for name, n in CLASSES.items()})
        self.history = nn.Linear(HIDDEN, len(HISTORIES))
        self.cells = nn.Linear(width, cells)
        self.early = nn.ModuleDict({name: nn.Linear(context, n) for name, n in CLASSES.items()})
        self.early_history = nn.Linear(context, len(HISTORIES))
        self.colour = nn.Embedding(len(COLOURS), hidden)
        self.form = nn.Embedding(len(SHAPES), hidden)
        self.find = nn.MultiheadAttention(hidden, 4, batch_first=True)
        self.found = nn.Sequential(nn.GELU(), nn.Linear(hidden, cells))

    def facts(self, tokens: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Logits of the learned reader: classes (P, n) each, histories (P, histories)."""
        rows = self.enter(tokens / self.scale) + self.place  # (P, F, H)
        read, _ = self.attend(self.query.expand(rows.shape[0], -1, -1), rows, rows)
        read = F.gelu(read[:, 0])
        return {name: head(read) for name, head in self.heads.items()}, self.history(read)

    def said(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the fixed reader: motions (P, 8) and histories (P, 5)."""
        along = (tokens.mean(1) / self.scale) @ self.words.T  # (P, W)
        along = along * self.sharpness + self.leaning
        return along[:, : len(MOTION_WORDS)], along[:, len(MOTION_WORDS) :]

    def loss(self, reading: Reading, facts: Facts, things: Things) -> dict[str, Tensor]:
        """Parts of the loss."""
        classes, history = self.facts(reading.tokens)
        motion, happened = self.said(reading.tokens)
        early = {name: head(reading.context) for name, head in self.early.items()}
        return {
            "facts": _class_loss(classes, facts) + 4 * _bits(history, facts.history),
            "said": 2 * _known(motion, facts.classes["motion"])
            + 6 * _bits(happened, facts.history),
            "early": _class_loss(early, facts)
            + 4 * _bits(self.early_history(reading.context), facts.history),
            "cells": 20 * _cells(self.cells(reading.tokens / self.scale), facts.cover),
            "place": looking_loss(reading.shares, facts.cover),
            "spatial": 20 * self._spatial(reading.vectors, things),
        }

    def _spatial(self, vectors: Tensor, things: Things) -> Tensor:
        query = self.colour(things.look[:, 0]) + self.form(things.look[:, 1])  # (V, h)
        memory = vectors[things.frame]
        found, _ = self.find(query[:, None], memory, memory)
        return _cells(self.found(found[:, 0]), things.cover)


def looking_loss(shares: Tensor, cover: Tensor) -> Tensor:
    """Cross entropy of where the focus looks, in frames that show what is asked about."""
    total = cover.sum(-1)  # (P, F)
    seen = total > 0.2
    wanted = cover[seen] / total[seen][:, None]
    return -(wanted * (shares[seen] + FAINT).log()).sum(-1).mean()


def _cells(logits: Tensor, cover: Tensor) -> Tensor:
    """The mean, and zero where there is nothing to know, as in the two below."""
    loss = F.binary_cross_entropy_with_logits(logits, cover, reduction="sum")
    return loss / max(1, cover.numel())


def _class_loss(logits: dict[str, Tensor], facts: Facts) -> Tensor:
    weights = {"motion": 2.0, "colour": 0.5, "shape": 0.5, "count": 1.0}
    return sum(weights[n] * _known(one, facts.classes[n]) for n, one in logits.items())


def _known(logits: Tensor, target: Tensor) -> Tensor:
    loss = F.cross_entropy(logits.float(), target, ignore_index=UNKNOWN, reduction="sum")
    return loss / max(1, int((target != UNKNOWN).sum()))


def _bits(logits: Tensor, target: Tensor) -> Tensor:
    known = target != UNKNOWN
    return _cells(logits[known].float(), target[known].float())
