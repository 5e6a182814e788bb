"""Item numbers in the order a mixture wants them, step by step.

`MixtureDataset` is an endless sequence of which epoch e is items [e * len, (e + 1) * len), and each
optimiser step trains the next `step_items` of it, however they are dealt to ranks and micro-steps.
So a Trainer's epoch is rounded up to whole steps, the last one filled with the next epoch's first
items: ranks that come out uneven would be given items of the same epoch a second time. Checkpoints
hold how many items were trained, so that a run may go on with other ranks, batches or micro-steps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator, Sized, Union

from torch.utils.data import Sampler
from transformers import TrainerCallback

FILE = "items.json"


class EpochOrder(Sampler[int]):
    """Numbers of a Trainer's current epoch, ascending; the dataset has done the shuffling.

    Args:
        dataset: the mixture. step_items: samples of an optimiser step, over ranks and micro-steps.
    """

    def __init__(self, dataset: Sized, step_items: int = 1):
        self.step_items = step_items
        self.steps = -(-len(dataset) // step_items)  # of an epoch
        self.first, self.shift, self.trained = 0, 0, None

    def __len__(self) -> int:
        return self.steps * self.step_items

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.first + len(self)))

    def begin(self, step: int) -> None:
        """The epoch in which this optimiser step lies begins; the Trainer skips what is behind."""
        if self.trained is not None:  # with steps of another size
            self.shift, self.trained = self.trained - step * self.step_items, None
        self.first = step // self.steps * len(self) + self.shift

    def save(self, folder: Union[str, Path], step: int) -> None:
        """Write into a checkpoint how many items were trained."""
        trained = {"items": step * self.step_items + self.shift}
        (Path(folder) / FILE).write_text(json.dumps(trained))

    def load(self, folder: Union[str, Path]) -> None:
        """Go on behind the items of a checkpoint; one without the file had steps of this size."""
        path = Path(folder) / FILE
        self.trained = json.loads(path.read_text())["items"] if path.is_file() else None


class FollowEpoch(TrainerCallback):
    """Tells an `EpochOrder` which epoch begins."""

    def __init__(self, order: EpochOrder):
        self.order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.order.begin(state.global_step)
