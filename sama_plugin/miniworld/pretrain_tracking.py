"""Dense supervision inside the decoder: visual tokens learn what their thing has done so far, nouns
learn which thing they name.

Answers alone teach tracking and looking up slowly: some eighty words a conversation, most of them
about names. So while it learns to chat, the decoder is also asked, half-way up and at every visual
token that shows a thing, for that thing's names, where it was in the frame before and in the first
one, and, in the last frame, for its motion and history; and, higher up and at the noun of every
question that names one thing ("the red circle"), for everything about that thing. Linear heads,
thrown away; the answers then only have to be read off. `look_up_by_content` is the other half:
attention that starts out as look-up. Used by `pretrain_host.py`.
"""

from __future__ import annotations

from functools import cache
from typing import Optional

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sama_plugin.miniworld import reference as ref
from sama_plugin.miniworld.chat import ChatTurn
from sama_plugin.miniworld.pretrain_facts import FactCodes
from sama_plugin.miniworld.pretrain_vision import BINS, WORDS, owners, thing_classes
from sama_plugin.miniworld.things import HISTORIES, MOTIONS, Clip

VISUAL_LAYER, NOUN_LAYER = 3, 5
"""The heads read the hidden states after this many decoder layers."""
_NAMES = {name: len(words) for name, words in WORDS.items()}
_DEEDS = {"motion": len(MOTIONS), "history": len(HISTORIES) + 1}
TRACKS = {**_NAMES, **dict.fromkeys(("x_before", "y_before", "x_first", "y_first"), BINS), **_DEEDS}
"""Classes at visual tokens."""
NOUNS = {**_NAMES, **dict.fromkeys(("x_start", "y_start", "x_end", "y_end"), BINS), **_DEEDS}
"""Classes at nouns."""

_TIMES = (2, 6, 10, 14)
PLACES = dict.fromkeys((f"{axis}{time}" for time in _TIMES for axis in "xy"), BINS)
"""Classes at `<box>` tokens, read from the decoder's last state: places all along the clip."""


class ClassHeads(nn.Module):
    """(M, C) hidden states -> logits per name of `classes`."""

    def __init__(self, width: int, classes: dict[str, int]):
        super().__init__()
        self.classes = classes
        self.norm = nn.RMSNorm(width)
        self.read = nn.Linear(width, sum(classes.values()))

    def forward(self, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = self.read(self.norm(hidden)).split(list(self.classes.values()), dim=-1)
        return dict(zip(self.classes, parts))


def track_targets(clip: Clip, picked: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Classes at every visual token of one conversation: (K, N, len(TRACKS)), -1 where not asked.

    `picked` are the K frame indices, `visible` (K, S, S) their maps of thing + 1.
    """
    table = np.full((len(picked), len(clip.things) + 1, len(TRACKS)), -1, dtype=np.int64)
    now = thing_classes(clip)[:, picked].transpose(1, 0, 2)  # (K, things, 6)
    table[:, 1:, :4] = now[..., :4]
    table[1:, 1:, 4:6] = now[:-1, :, 4:]
    table[1:, 1:, 6:8] = now[:1, :, 4:]
    if len(picked) > 2:
        table[-1, 1:, 8:] = _deeds(clip)
    rows = np.stack([owners(frame) for frame in visible])  # (K, N)
    return np.take_along_axis(table, rows[..., None].astype(np.int64), axis=1)


def noun_targets(clip: Clip, picked: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Classes of every thing: (things, len(NOUNS)); -1 where `picked` frames do not tell."""
    now = thing_classes(clip)  # (things, T, 6)
    rows = np.concatenate([now[:, 0, :4], now[:, 0, 4:], now[:, -1, 4:], _deeds(clip)], axis=1)
    if len(picked) < 3:
        rows[:, 4:] = -1
    for index in range(len(rows)):
        if not (visible == index + 1).any():
            rows[index] = -1
    return rows


def place_targets(clip: Clip) -> np.ndarray:
    """Classes of every thing: (things, len(PLACES))."""
    now = thing_classes(clip)  # (things, T, 6)
    return np.concatenate([now[:, time, 4:] for time in _TIMES], axis=1)


@cache
def named_thing(clip: Clip, turn: ChatTurn) -> Optional[int]:
    """The one thing that the question is about, named in it or (which?) in its answer, or None."""
    if turn.kind == "which":
        answers = {
            f"The {t.name()}.": i for i, t in enumerate(clip.things) if ref.is_unique(clip, i)
        }
        return answers.get(turn.answer)
    for index, thing in enumerate(clip.things):
        names = [ref.reference(clip, index)] if "that" in turn.question else [thing.name()]
        if turn.kind == "colour":
            names = [thing.shape]
        elif turn.kind == "shape":
            names = [f"{thing.colour} thing"]
        elif not ref.is_unique(clip, index) and "that" not in turn.question:
            continue
        if any(name and f" {name}" in turn.question for name in names):
            return index
    return None


@cache
def _deeds(clip: Clip) -> np.ndarray:
    """Motion and (first) history of every thing: (things, 2)."""
    rows = []
    for index, thing in enumerate(clip.things):
        histories = clip.histories(index)
        history = HISTORIES.index(histories[0][0]) + 1 if histories else 0
        rows.append((MOTIONS.index(thing.motion), history))
    return np.array(rows)


def class_loss(heads: ClassHeads, hidden: torch.Tensor, targets: torch.Tensor):
    """Mean cross entropy over the heads, and accuracies.

    `targets` are (M, classes) long, -1 where nothing is asked.
    """
    logits, losses, scores = heads(hidden), [], {}
    for column, name in enumerate(heads.classes):
        target = targets[:, column]
        asked = target >= 0
        if asked.any():
            losses.append(F.cross_entropy(logits[name][asked].float(), target[asked]))
            hits = logits[name][asked].argmax(-1) == target[asked]
            scores[name] = hits.float().mean().item()
    return torch.stack(losses).mean() if losses else hidden.sum() * 0, scores


LOOK_UPS = 4
"""Layers whose first group of heads starts as a look-up."""
MATCH, SEEN, COPIED = 8.0, 25.0, 0.05


@torch.no_grad()
def look_up_by_content(decoder: nn.Module, codes: FactCodes, generator: torch.Generator) -> None:
    """Let a group of heads in the first layers start as "the cells that show what this word names".

    Queries and keys read how much of each attribute word a token holds, in coordinates that RoPE
    hardly turns; a bias of the query prefers cells that show something; what is attended to is
    added as it is. A random start finds this only after thousands of steps (compare the "mimetic"
    initialisation of Trockman and Kolter, arXiv 2305.09828). Branches start small, so that words
    and visual tokens are not drowned on their way up.
    """
    words = torch.cat([getattr(codes, name) for name in WORDS])  # (20, C)
    reader = torch.linalg.pinv(
        torch.cat([words, codes.flags[:1]])
    ).T  # (21, C), reads one code each
    places = torch.cat([words, codes.x, codes.y])
    basis = torch.linalg.svd(places, full_matrices=False)[2]  # (52, C)
    width = decoder.layers[0].self_attn.head_dim
    slow = torch.arange(width // 2 - (len(reader) + 1) // 2, width // 2)
    slow = torch.cat([slow, slow + width // 2])[: len(reader)]
    length, size = words.norm(dim=1).mean(), words.shape[1] ** 0.5
    word, cell = size / length, size / (length * 8**0.5)  # a code's reading in a word, in a cell
    gain = (MATCH * width**0.5 / (word * cell)).sqrt()
    for depth, layer in enumerate(decoder.layers):
        attention = layer.self_attn
        layer.mlp.down_proj.weight.mul_(0.2)
        spread = words.shape[1] ** -0.5
        attention.o_proj.weight.normal_(0, spread / 16, generator=generator)
        if depth >= LOOK_UPS:
            continue
        heads = attention.q_proj.out_features // attention.k_proj.out_features
        attention.k_proj.weight[:width].normal_(0, spread / 20, generator=generator)
        attention.k_proj.weight[slow] = gain * reader
        attention.v_proj.weight[:width] = basis[:width]
        for head in range(heads):
            rows = slow + head * width
            queries = attention.q_proj.weight[head * width : (head + 1) * width]
            queries.normal_(0, spread / 4, generator=generator)
            attention.q_proj.weight[rows[:-1]] = gain * reader[:-1]
            attention.q_proj.bias[rows[-1]] = SEEN * width**0.5 / (gain * cell)
            attention.o_proj.weight[:, head * width : (head + 1) * width] += (
                COPIED * basis[:width].T
            )
