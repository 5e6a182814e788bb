"""Who reads what in the aggregator: frames and prompts of several samples as flat indices.

A sample's F frames of Qs vectors each are cut into windows; every prompt of the sample is paired
with every one of its windows ("readings") and later with every one of its frames ("pairs"). All
readings of all samples go through the temporal Q-Former in one call, short windows padded: calls
in groups would differ in number between ranks. Used by `aggregator.py`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate, product

import torch
from torch import Tensor


@dataclass(frozen=True)
class SampleSpan:
    """One sample's share of the flat tensors."""

    frames: slice
    readings: slice  # prompts * windows of them, prompt-major
    prompts: int
    windows: int

    def by_prompt(self, readings: Tensor) -> Tensor:
        """(A, Q, ...) of all readings to (P, windows * Q, ...) of this sample's prompts."""
        length = self.windows * readings.shape[1]
        return readings[self.readings].reshape(self.prompts, length, *readings.shape[2:])


@dataclass(frozen=True)
class ContextLayout:
    """Indices of all samples. W windows of at most K vectors, A readings, X pairs.

    `samples` starts with an empty span, so that a loop over it meets every tensor at least once,
    also when there is no work.
    """

    samples: tuple[SampleSpan, ...]
    window_vectors: Tensor  # (W, K) long into the flat frame vectors
    window_mask: Tensor  # (W, K) bool, False where padded
    reading_prompt: Tensor  # (A,) long
    reading_window: Tensor  # (A,) long
    pair_frame: Tensor  # (X,) long, prompt-major, frames in order


def lay_out(
    frame_owner: Tensor, prompt_owner: Tensor, vectors: int, window: int, stride: int
) -> ContextLayout:
    """Indices for frames owned by `frame_owner` (NF,) and prompts owned by `prompt_owner` (P,).

    Args:
        frame_owner, prompt_owner: long, ascending.
        vectors: Qs, vectors a frame.
        window, stride: in vectors; a window starts every `stride` vectors and the last ones may
            be shorter (released rule).
    """
    owners, askers = frame_owner.tolist(), prompt_owner.tolist()
    assert owners == sorted(owners) and askers == sorted(askers), "owners must be ascending"
    frames, prompts = Counter(owners), Counter(askers)
    ids = sorted({*owners, *askers})
    frame_ends = list(accumulate((frames[i] for i in ids), initial=0))
    prompt_ends = list(accumulate((prompts[i] for i in ids), initial=0))

    spans = [SampleSpan(slice(0, 0), slice(0, 0), 0, 0)]
    starts, ends, readings, pair_frame = [], [], [], []
    for number in range(len(ids)):
        seen = range(frame_ends[number], frame_ends[number + 1])
        asked = range(prompt_ends[number], prompt_ends[number + 1])
        offsets = range(seen.start * vectors, seen.stop * vectors, stride)
        windows = range(len(starts), len(starts) + len(offsets))
        starts += offsets
        ends += [min(offset + window, seen.stop * vectors) for offset in offsets]
        first = len(readings)
        readings += product(asked, windows)
        pair_frame += list(seen) * len(asked)
        read = slice(first, len(readings))
        spans.append(SampleSpan(slice(seen.start, seen.stop), read, len(asked), len(windows)))

    def index(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=frame_owner.device)

    longest = max((end - start for start, end in zip(starts, ends)), default=1)
    place = index(starts)[:, None] + torch.arange(longest, device=frame_owner.device)  # (W, K)
    mask = place < index(ends)[:, None]
    return ContextLayout(
        tuple(spans),
        place.where(mask, index(starts)[:, None]),
        mask,
        index([prompt for prompt, _ in readings]),
        index([window for _, window in readings]),
        index(pair_frame),
    )
