"""Looking again: every word of an answer may look at the frames as they were read.

Whether there is a green circle that turns around is decided by the first word of the answer ("It",
"There"), long before [SEG] asks where it is. The host's attention finds what a word names; to find
what a whole phrase means it would have to learn anew, and LoRA is slow to teach it. Here a state
that is about to become a word is compared with the tokens that pointing learns from
(`pointing.py`), and with nothing at all; a small network compares what it asked for with what it
found and how well it fits, and the result is added to the state before the host's head. Training
tells the state before an answer, and the one before a phrase, where to look (`look_loss`).

It starts without effect, and [SEG] keeps the state it had. Ours, not SAMA's; used by
`model/looking.py`, off for released models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sama_plugin.nn.pointing import Seen

_HIDDEN = -1e4


@dataclass(frozen=True)
class View:
    """What can be looked at. keys, values: (B, K N, d). real: (B, K N) bool, not padding."""

    keys: Tensor
    values: Tensor
    real: Tensor


class Look(nn.Module):
    """Looks at the frames' tokens with states that are about to become words.

    Args:
        width: C of the language model. hidden: d of the pointer's tokens.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.asked = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden))
        self.meant = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden))
        self.keys = nn.Sequential(  # a bias would move all scores alike
            nn.LayerNorm(hidden, elementwise_affine=False), nn.Linear(hidden, hidden, bias=False)
        )
        self.values = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden))
        self.nothing = nn.Linear(hidden, 1)  # how well "nothing of this" answers what is asked
        self.told = nn.Sequential(
            nn.Linear(3 * hidden + 1, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, width)
        )
        nn.init.zeros_(self.told[-1].weight)
        nn.init.zeros_(self.told[-1].bias)

    @property
    def dtype(self) -> torch.dtype:
        """Compute type; inputs are cast to it."""
        return self.nothing.weight.dtype

    def view(self, seen: Seen) -> View:
        """The frames, once for all words that look at them."""
        tokens = seen.tokens.to(self.dtype).flatten(1, 2)  # (B, K N, d)
        real = seen.real.repeat_interleave(seen.tokens.shape[2], 1)
        return View(self.keys(tokens), self.values(tokens), real)

    def forward(self, states: Tensor, row: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """What to add to states, and where they look.

        Args:
            states: (X, C). row: (X,) long, of `view`.

        Returns:
            (X, C), and shares (X, K N + 1) of the tokens and, last, of nothing; they add up to one.
        """
        states = states.to(self.dtype)
        asked = self.asked(states)  # (X, d)
        at, place, longest = _laid(row, len(view.keys))
        queries = asked.new_zeros(len(view.keys), longest, asked.shape[-1])
        queries = queries.index_put((at, place), asked)  # (B, L, d)
        scores = (queries @ view.keys.mT / math.sqrt(asked.shape[-1])).float()  # (B, L, K N)
        scores = scores.masked_fill(~view.real[:, None], _HIDDEN)[at, place]  # (X, K N)
        nothing = self.nothing(asked).float()  # (X, 1)
        shares = torch.cat([scores, nothing], -1).softmax(-1)
        spread = shares.new_zeros(*queries.shape[:2], scores.shape[-1])
        spread = spread.index_put((at, place), shares[:, :-1]).to(self.dtype)
        found = (spread @ view.values)[at, place]  # (X, d)
        odds = scores.logsumexp(-1, keepdim=True) - nothing  # that it is there at all
        odds, meant = (0.1 * odds).to(self.dtype), self.meant(states)
        return self.told(torch.cat([meant, found, meant * found, odds], -1)), shares


def look_loss(shares: Tensor, cells: Tensor, judged: Tensor) -> Tensor:
    """Minus the log of the share that falls on the thing, of what falls on judged frames or on
    nothing; mean over E states, zero for none.

    Args:
        shares: (E, K N + 1). cells: (E, K N) in [0, 1], how much of a cell is the thing.
        judged: (E, K N) bool, cells of the frames in which it is known where the thing is.
    """
    on = (shares[:, :-1] * cells).sum(-1)  # (E,)
    of = (shares[:, :-1] * judged).sum(-1) + shares[:, -1]
    lost = of.clamp_min(1e-6).log() - on.clamp_min(1e-6).log()
    return lost.sum() / max(shares.shape[0], 1)


def _laid(row: Tensor, rows: int) -> tuple[Tensor, Tensor, int]:
    """(row, place in the row) of each state when rows are laid out side by side, and the longest
    row; at least one place."""
    counts = torch.bincount(row, minlength=rows)  # (B,)
    start = counts.cumsum(0) - counts
    order = row.argsort(stable=True)
    place = torch.empty_like(row)
    place[order] = torch.arange(len(row), device=row.device) - start[row[order]]
    return row, place, max(1, int(counts.max()))
