"""A call's frames as places to look at, and where training wants its states to look.

The taps make a `Looking` once the frames are read and pass every state that comes after them
through `nn/look.py` on its way to the head. In training the state before an answer looks at the
first thing that the answer grounds, the one before a grounded phrase at the phrase's, and the
answer to a question about one region at the region. Frames count where it is known where the thing
is. Used by `taps.py` and `attach.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from sama_plugin.data.batch import SamaBatch
from sama_plugin.dialog.spans import IGNORE
from sama_plugin.dialog.tokens import TokenIds
from sama_plugin.nn.look import Look, View, look_loss
from sama_plugin.nn.pointing import Seen

SAME = 1e-4
"""Two moments of one frame differ by less: they are computed in single precision."""


@dataclass
class Looking:
    """Frames that can be looked at, and what the latest forward pass did with them.

    Attributes:
        number: (B, L) long, place in `shares` of each position, -1 where it did not look.
        shares: (X, K N + 1) of the states that looked.
    """

    seen: Seen
    view: View
    number: Optional[Tensor] = None
    shares: Optional[Tensor] = None

    def tell(self, look: Look, hidden: Tensor, sample: Tensor, awaits: Tensor) -> Tensor:
        """States on their way to the head, (B, L, C), with what they found.

        Args:
            sample: (B, L) long. awaits: (B, L) bool, where frames of the sample are still to come.
        """
        row = self.seen.rows(sample.flatten().contiguous()).view_as(sample)
        looks = (row >= 0) & ~awaits
        told, self.shares = look(hidden[looks], row[looks], self.view)
        counted = looks.flatten().cumsum(0).view_as(row) - 1
        self.number = torch.where(looks, counted, torch.full_like(counted, -1))
        found = torch.zeros_like(hidden).index_put((looks,), told.to(hidden.dtype))
        return hidden + found + 0.0 * told.sum().to(hidden.dtype)


def samples_of(
    ids: Tensor, batch: Optional[SamaBatch], positions: Optional[Tensor], image_id: int
) -> tuple[Tensor, Tensor]:
    """(B, L) the sample of every position, and whether a frame of its sample is still to come.

    A row is a sample, unless one row holds several: positions begin again with each.
    """
    rows, length = ids.shape
    if rows == 1 and batch is not None and batch.samples > 1:
        sample = (positions.view(1, -1)[:, :length] == 0).cumsum(1) - 1
    else:
        sample = torch.arange(rows, device=ids.device)[:, None].expand(rows, length)
    place = torch.arange(length, device=ids.device).expand(rows, length)
    last = torch.full((int(sample.max()) + 1,), -1, device=ids.device)
    image = ids == image_id
    last = last.scatter_reduce(0, sample[image], place[image], "amax")
    return sample, place < last[sample]


def looking_loss(
    looking: Looking,
    words: Tensor,
    labels: Tensor,
    tokens: TokenIds,
    batch: SamaBatch,
    grid: tuple[int, int],
) -> Tensor:
    """`look_loss` of the states that are told where to look.

    Args:
        words, labels: (B, L) long, of the whole sequences. grid: (h, w) of a frame's cells.
    """
    number, chosen, cells, judged = looking.number.tolist(), [], [], []
    for row, position, target, region in told(words, labels, tokens, batch):
        if number[row][position] < 0:
            continue
        if target is None:
            places = _region_cells(batch, region, looking.seen)
        else:
            places = _target_cells(batch, target, looking.seen, grid)
        if places is not None:
            chosen.append(number[row][position])
            cells.append(places[0].flatten())
            judged.append(places[1].expand_as(places[0]).flatten())
    if not chosen:
        return 0.0 * looking.shares.sum()
    return look_loss(looking.shares[chosen], torch.stack(cells), torch.stack(judged))


def told(
    words: Tensor, labels: Tensor, tokens: TokenIds, batch: SamaBatch
) -> Iterator[tuple[int, int, Optional[int], Optional[int]]]:
    """(row, position, target, region) of the states to be told, target or region None; both count
    in reading order.

    Args:
        words, labels: (B, L) long.
    """
    slots = [2] * batch.regions if batch.region_slots is None else batch.region_slots.tolist()
    target, region, left = -1, -1, 0
    for row, (said, wanted) in enumerate(zip(words.tolist(), labels.tolist())):
        answer = opened = None  # positions of the state before an answer and before a phrase
        asked: list[int] = []  # regions of the question
        for position, word in enumerate(said):
            if word == tokens.region:
                if left == 0:  # the first of its tokens
                    region += 1
                    asked.append(region)
                    left = slots[region]
                left -= 1
            learned = wanted[position] != IGNORE
            follows = position + 1 < len(said) and wanted[position + 1] != IGNORE
            if follows and not learned:
                answer = position
            if word == tokens.phrase_open:
                opened = position
            if word == tokens.seg:
                target += 1
                yield from ((row, at, target, None) for at in (answer, opened) if at is not None)
                answer = opened = None
            if learned and not follows:
                if answer is not None and len(asked) == 1:
                    yield row, answer, None, asked[0]
                answer, asked = None, []


Places = Optional[tuple[Tensor, Tensor]]
"""(K, N) how much of a cell is the thing, and (K, 1) in which frames that is known."""


def _target_cells(batch: SamaBatch, target: int, seen: Seen, grid: tuple[int, int]) -> Places:
    """From the mask labels of a target; None where no frame that was read has one."""
    row = int(seen.rows(batch.target_owner[target]))
    mine = (batch.label_target == target) & batch.label_present
    moments = batch.segment_moment[batch.label_segment[mine]]  # (e,)
    same = ((moments[:, None] - seen.times[row]).abs() < SAME) & seen.real[row]  # (e, K)
    if not same.any():
        return None
    area = F.adaptive_avg_pool2d(batch.label_mask[mine].float(), grid).flatten(1)  # (e, N)
    return (same.float().T @ _relative(area)).clamp(0, 1), same.any(0)[:, None]


def _region_cells(batch: SamaBatch, region: int, seen: Seen) -> Places:
    """From the frames where a region was pointed at; None where none of them was read."""
    mine = batch.entry_owner == region
    owner = batch.frame_owner[batch.keep_rows]
    sample = batch.prompt_owner[batch.region_prompt[region]]
    kept = batch.keep_rows[owner == sample]  # (k,) rows of the frames that were read, in order
    same = batch.entry_row[mine][:, None] == kept  # (e, k)
    if not same.any():
        return None
    same = F.pad(same, (0, seen.times.shape[1] - len(kept)))  # (e, K)
    return (same.float().T @ _relative(batch.entry_weights[mine])).clamp(0, 1), same.any(0)[:, None]


def _relative(area: Tensor) -> Tensor:
    """(e, N) areas in units of the fullest cell."""
    return area.float() / area.float().amax(-1, keepdim=True).clamp_min(1e-6)
