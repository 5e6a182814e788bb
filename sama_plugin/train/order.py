"""Item numbers in the order a mixture wants them, epoch by epoch.

`MixtureDataset` is an endless sequence of which epoch e is items [e * len, (e + 1) * len). The
sampler hands these numbers out in order; the epoch comes from the trainer's own state, so a resumed
run goes on exactly where it stopped.
"""

from __future__ import annotations

from typing import Any, Iterator, Sized

from torch.utils.data import Sampler
from transformers import TrainerCallback


class EpochOrder(Sampler[int]):
    """Numbers of the current epoch, ascending; the dataset has done the shuffling."""

    def __init__(self, dataset: Sized):
        self.dataset = dataset
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * len(self.dataset)
        return iter(range(first, first + len(self.dataset)))


class FollowEpoch(TrainerCallback):
    """Tells an `EpochOrder` which epoch begins."""

    def __init__(self, order: EpochOrder):
        self.order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.order.epoch = int(state.epoch or 0)
