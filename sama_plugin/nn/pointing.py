"""Pointing: where in the frames that the language model read is the thing that [SEG] means.

A prompt vector alone must say where the thing is on every keyframe; that is a lot to ask of one
vector, and look-alikes that only their motion tells apart come out as a coin toss. But the language
model has seen the frames one after the other, so its final states at a frame's visual tokens know
what the thing under them has done so far (on the mini host a linear layer reads the motion of
look-alikes from the last frame's tokens, 0.86 right of 8, and not from the ViT's: 0.43). Two
attention layers tell it to the earlier frames as well; [SEG] is then compared with every token, and
the frame's share of attention says where to click. The segmenter's own embeddings of clicks at the
tokens, mixed by these shares, join the prompt vector; several things keep several places.

Ours, not SAMA's; used by `model/sama.py`, off for released models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sama_plugin.nn.seg import WAVES, waves

LAYERS, HEADS = 2, 4


@dataclass(frozen=True)
class ReadFrames:
    """Frames as the language model read them.

    Attributes:
        states: (K, N, C) final hidden states at the visual tokens, frames of a sample together.
        moment: (K,) place of each frame in its clip, 0 to 1.
        owner: (K,) long, its sample, ascending.
    """

    states: Tensor
    moment: Tensor
    owner: Tensor


@dataclass(frozen=True)
class Seen:
    """Frames that were read, as places to look at.

    Attributes:
        tokens: (B, K, N, d); those of frames that a row lacks say nothing. times: (B, K).
            real: (B, K) bool.
        samples: (X,) long, ascending, those that read frames. shared: (X,) long, the row of each;
            None where every sample has a row of its own.
    """

    tokens: Tensor
    times: Tensor
    real: Tensor
    samples: Tensor
    shared: Optional[Tensor] = None

    def rows(self, owner: Tensor) -> Tensor:
        """The row of each sample in `owner` (X,), -1 for samples that read no frame."""
        if not len(self.samples):
            return torch.full_like(owner, -1)
        place = torch.searchsorted(self.samples, owner).clamp_max(len(self.samples) - 1)
        row = place if self.shared is None else self.shared[place]
        return torch.where(self.samples[place] == owner, row, torch.full_like(row, -1))

    @classmethod
    def together(cls, read: Sequence[Optional[Seen]]) -> Optional[Seen]:
        """What conversations have seen that are now samples 0, 1, ...; each comes with one row, and
        those that come with the same one share it. None if none has seen anything.
        """
        different = list({id(one): one for one in read if one is not None}.values())
        if not different:
            return None
        longest = max(one.real.shape[1] for one in different)
        missing = [longest - one.real.shape[1] for one in different]
        samples = [number for number, one in enumerate(read) if one is not None]
        place = {id(one): number for number, one in enumerate(different)}
        shared = [place[id(read[number])] for number in samples]
        device = different[0].tokens.device
        return cls(
            torch.cat([F.pad(s.tokens, (0, 0, 0, 0, 0, n)) for s, n in zip(different, missing)]),
            torch.cat([F.pad(s.times, (0, n)) for s, n in zip(different, missing)]),
            torch.cat([F.pad(s.real, (0, n)) for s, n in zip(different, missing)]),
            torch.tensor(samples, device=device),
            torch.tensor(shared, device=device),
        )


@dataclass(frozen=True)
class Pointed:
    """Where E (target, keyframe) pairs lie.

    Attributes:
        shares: (E, N) of the keyframe's cells; they add up to one.
        points: (E, 2) mean place (x, y) in [0, 1].
        clicks: (E, D) what the segmenter makes of clicks at these places, by their shares.
        found: (E,) bool, False where the language model read no frame: there is nothing to point at
            and `clicks` is zero.
    """

    shares: Tensor
    points: Tensor
    clicks: Tensor
    found: Tensor


class Pointer(nn.Module):
    """Compares states at [SEG] with the visual tokens that the language model read.

    Args:
        width: C of the language model. hidden: width of the comparison, a multiple of 4.
        grid: (h, w) of a frame's visual tokens.
    """

    def __init__(self, width: int, hidden: int, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid
        self.look = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden))
        self.place = nn.Linear(3 * (2 * WAVES + 1), hidden)
        layer = nn.TransformerEncoderLayer(
            hidden, HEADS, 2 * hidden, dropout=0.0, batch_first=True, norm_first=True
        )
        self.through_time = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.keys = nn.Sequential(  # a bias would move all scores of a frame alike
            nn.LayerNorm(hidden, elementwise_affine=False), nn.Linear(hidden, hidden, bias=False)
        )
        self.shift = nn.Linear(hidden, 2)
        self.asked = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden))
        nn.init.zeros_(self.shift.weight)
        nn.init.zeros_(self.shift.bias)

    @property
    def dtype(self) -> torch.dtype:
        """Compute type; inputs are cast to it."""
        return self.shift.weight.dtype

    def forward(
        self,
        states: Tensor,
        owner: Tensor,
        seen: Seen,
        target: Tensor,
        moment: Tensor,
        embed_clicks: Callable[[Tensor], Tensor],
    ) -> Pointed:
        """Point at every target on every keyframe it is asked for.

        A keyframe that the language model has read is looked up; on any other its neighbours in
        time are mixed by their distance.

        Args:
            states: (S, C) final hidden states at [SEG]. owner: (S,) long, sample of each.
            target: (E,) long into S. moment: (E,) place of the keyframe in its clip, 0 to 1.
            embed_clicks: points (X, 2) in [0, 1] to the segmenter's embeddings (X, D).
        """
        row, tokens = seen.rows(owner), seen.tokens  # (S,), (B, K, N, d)
        real = seen.real[row.clamp_min(0)] & (row >= 0)[:, None]  # (S, K)
        times, row = seen.times[row.clamp_min(0)], row.clamp_min(0)
        keys, points = self.keys(tokens), self._points(tokens)  # points (B, K, N, 2)
        asked = self.asked(states.to(self.dtype))  # (S, d)
        scores = torch.einsum("sd,sknd->skn", asked, keys[row]) / math.sqrt(asked.shape[-1])
        weights, found = _neighbours(moment, times[target], real[target])  # (E, K)
        idle = 0.0 * (keys.sum() + points.sum() + asked.sum())
        with torch.autocast(states.device.type, enabled=False):  # places need more than 8 bits
            shares = scores.float().softmax(-1)  # (S, K, N)
            clicks = embed_clicks(points.flatten(0, 2)).unflatten(0, points.shape[:3]).float()
            mixed = torch.einsum("skn,sknd->skd", shares, clicks[row])  # (S, K, D)
            middle = torch.einsum("skn,skne->ske", shares, points[row])  # (S, K, 2)
            at = [
                torch.einsum("ek,ekx->ex", weights, one[target]) for one in (shares, middle, mixed)
            ]
        return Pointed(at[0], at[1] + idle.float(), at[2], found)

    def seen(self, read: ReadFrames) -> Seen:
        """The frames through the attention layers."""
        samples = torch.unique(read.owner)
        states, times, real = _by_sample(read, samples)
        return Seen(self._tokens(states, times, real), times, real, samples)

    def _tokens(self, seen: Tensor, times: Tensor, real: Tensor) -> Tensor:
        """(B, K, N, C) with their places through the attention layers: (B, K, N, d)."""
        samples, frames, cells = seen.shape[:3]
        x, y = self._centres(seen.device).unbind(-1)  # (N,)
        across = torch.cat([waves(x), waves(y)], dim=-1).expand(samples, frames, -1, -1)
        when = waves(times.flatten()).view(samples, frames, 1, -1).expand(-1, -1, cells, -1)
        place = self.place(torch.cat([across, when], dim=-1).to(self.dtype))
        hidden = (self.look(seen.to(self.dtype)) + place).flatten(1, 2)  # (B, K N, d)
        padded = real.any(1, keepdim=True) & ~real  # a row without frames attends to its zeros
        padded = padded.repeat_interleave(cells, 1)  # (B, K N)
        hidden = self.through_time(hidden, src_key_padding_mask=padded)
        return hidden.unflatten(1, (frames, cells))

    def _points(self, tokens: Tensor) -> Tensor:
        """Where to click for a token: its middle, moved by up to a cell."""
        height, width = self.grid
        cell = torch.tensor([1 / width, 1 / height], device=tokens.device)
        moved = self._centres(tokens.device) + self.shift(tokens).float().tanh() * cell
        return moved.clamp(0, 1)

    def _centres(self, device: torch.device) -> Tensor:
        """(N, 2) middles (x, y) of the cells, row by row."""
        height, width = self.grid
        y, x = ((torch.arange(size, device=device) + 0.5) / size for size in (height, width))
        return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=-1)


def place_loss(shares: Tensor, masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cross entropy of shares (E, N) against the mask's area (E, h, w) in each cell of `grid`,
    relative to an even share: 1 is what no idea costs. Zero rows give zero.
    """
    area = F.adaptive_avg_pool2d(masks.float(), grid).flatten(1)  # (E, N)
    wanted = area / area.sum(-1, keepdim=True).clamp_min(1e-6)
    missed = -(wanted * shares.float().clamp_min(1e-6).log()).sum()
    return missed / (max(shares.shape[0], 1) * math.log(shares.shape[1]))


def _by_sample(read: ReadFrames, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """States (B, K, N, C), moments (B, K) and which of them are real (B, K), for the samples with
    targets; at least one frame of one sample, so that the modules always have work.
    """
    mine = [torch.nonzero(read.owner == sample)[:, 0] for sample in samples.tolist()]
    longest = max([1, *(len(rows) for rows in mine)])
    seen = read.states.new_zeros(max(1, len(mine)), longest, *read.states.shape[1:])
    times = read.moment.new_zeros(len(seen), longest)
    real = torch.zeros(len(seen), longest, dtype=torch.bool, device=seen.device)
    for number, rows in enumerate(mine):
        seen[number, : len(rows)] = read.states[rows]
        times[number, : len(rows)] = read.moment[rows]
        real[number, : len(rows)] = True
    return seen, times, real


def _neighbours(moment: Tensor, times: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """(E, K) weights of the frames just before and after each moment (E,), adding up to one;
    frames at `times` (E, K), of which `real` count. Also (E,) whether there is any.
    """
    gap = times - moment[:, None]  # (E, K)
    far = torch.full_like(gap, float("inf"))
    before = torch.where(real & (gap <= 0), -gap, far)
    after = torch.where(real & (gap >= 0), gap, far)
    (back, first), (ahead, last) = before.min(-1), after.min(-1)
    none_before, none_after = back.isinf(), ahead.isinf()
    first, last = torch.where(none_before, last, first), torch.where(none_after, first, last)
    share = back / (back + ahead).clamp_min(1e-9)  # of the later one
    share = torch.where(none_before | none_after, torch.zeros_like(share), share)
    weights = torch.zeros_like(gap).scatter_add(1, first[:, None], (1 - share)[:, None])
    weights = weights.scatter_add(1, last[:, None], share[:, None])
    found = real.any(-1)
    return weights * found[:, None], found
