"""Which samples share a row when the script packs (`--use_packed_ds True`).

The tree's own packer joins items key by key, cuts what is too long and swallows what cannot be
read; a region would lose its frames. This one takes the tree's datasets, weights and limits,
draws as it does (a dataset by weight, its records in turn, first into the fullest row with room)
and never opens an item: a row is a list of whole samples, ours and the host's, which
`packed_batch.py` lays out. A row leaves when it is full, when too many are open, or at the end.
The blank of a bad record (`data/quarantine.py`) rides in a row that has something to learn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterator, Sequence

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from sama_plugin.data.collate import Prepared
from sama_plugin.data.sources import BUDGET
from sama_plugin.errors import DataError
from sama_plugin.logs import get_logger, warn_once

log = get_logger("bridges")


@dataclass(frozen=True)
class PackLimits:
    """How large rows become: the script's flags of the same meaning.

    Attributes:
        tokens: of a row (`--max_packed_tokens`).
        images: rows of the vision tower a packed row (`--num_images_expected`).
        open_rows: rows waiting for more (`--max_buffer_size`).
        fill: pad every row to exactly `tokens` and `images` (`--strict_mode`).
        again: begin a dataset anew when it is through (`--replacement`).
    """

    tokens: int
    images: int
    open_rows: int
    fill: bool = False
    again: bool = False


@dataclass
class PackedRow:
    """Whole samples that share a row, and what they take; `fill_images` is 0 or the number of
    images the row is padded to."""

    items: list[Any] = field(default_factory=list)
    tokens: int = 0
    images: int = 0
    fill_images: int = 0

    def take(self, blanks: list[Prepared]) -> None:
        """Add and empty `blanks`; the few tokens of each may be more than the row has room for."""
        self.items += blanks
        self.tokens += sum(len(one.encoded) for one in blanks)
        blanks.clear()


class PackedRows(IterableDataset):
    """Rows of samples of several datasets; every rank and worker reads other records.

    Args:
        datasets: map-style; one with an attribute `total_ranks` holds the records of its rank only.
        weights: how often each is drawn.
    """

    def __init__(
        self,
        datasets: Sequence[Any],
        weights: Sequence[float],
        limits: PackLimits,
        rank: int = 0,
        world: int = 1,
    ):
        self.datasets, self.weights, self.limits = list(datasets), list(weights), limits
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[PackedRow]:
        limits, waiting, blanks = self.limits, [], []
        for item, name in self._drawn():
            if isinstance(item, Prepared) and item.bad is not None:
                blanks.append(item)
                _check_blanks(blanks)
                continue
            tokens, images = _size(item)
            if not self._fits(item, tokens, images, name):
                continue
            row = next((one for one in waiting if self._has_room(one, tokens, images)), None)
            if row is None:
                row = PackedRow(fill_images=limits.images if limits.fill else 0)
                waiting.append(row)
            row.tokens, row.images = row.tokens + tokens, row.images + images
            row.items.append(item)
            row.take(blanks)
            waiting.sort(key=lambda one: -one.images)
            if row.tokens >= limits.tokens or row.images == limits.images:
                waiting = [one for one in waiting if one is not row]
                yield row
            if len(waiting) > limits.open_rows:
                yield waiting.pop(0)
        if waiting:
            waiting[-1].take(blanks)
        if blanks:
            bad = blanks[0].bad.message
            log.warning("%d bad records behind the last packed row, first: %s", len(blanks), bad)
        yield from waiting

    def _drawn(self) -> Iterator[tuple[Any, str]]:
        """Samples and the names of their datasets."""
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        rng = np.random.default_rng(workers * self.rank + number)
        streams = [self._records(part, number, workers) for part in self.datasets]
        weights = list(self.weights)
        while streams:
            drawn = rng.choice(len(streams), p=np.array(weights) / sum(weights))
            found = next(streams[drawn], None)
            if found is None:
                del streams[drawn], weights[drawn]
            else:
                yield found

    def _records(self, part: Any, number: int, workers: int) -> Iterator[tuple[Any, str]]:
        """This worker's share of a dataset, in an order that all workers agree on."""
        name, order = _name(part), np.random.default_rng(0)
        if not hasattr(part, "total_ranks"):
            number, workers = number + workers * self.rank, workers * self.world
        while True:
            share = order.permutation(len(part))[number::workers].tolist()
            for index in share:
                yield _read(part, index, name), name
            if not (self.limits.again and share):
                return

    def _has_room(self, row: PackedRow, tokens: int, images: int) -> bool:
        limits = self.limits
        return row.tokens + tokens <= limits.tokens and row.images + images <= limits.images

    def _fits(self, item: Any, tokens: int, images: int, name: str) -> bool:
        """Whether a sample fits an empty row; one of ours that does not is an error."""
        if self._has_room(PackedRow(), tokens, images):
            return True
        limits = self.limits
        said = (
            f"{tokens} tokens and {images} frames or tiles do not fit a packed row of "
            f"{limits.tokens} tokens (--max_packed_tokens) and {limits.images} images "
            "(--num_images_expected)"
        )
        if isinstance(item, Prepared):
            raise DataError(f"{said}; raise the flag, or read fewer frames", record=item.sample.id)
        warn_once(f"unpacked-{name}", f"dataset {name}: a record is left out: {said}; said once")
        return False


def _check_blanks(blanks: Sequence[Prepared]) -> None:
    """Stops what would read bad records for ever."""
    if len(blanks) > BUDGET:
        raise DataError(
            f"{len(blanks)} bad records came one after the other, first: {blanks[0].bad.message}",
            file=blanks[0].bad.file,
            reason="budget",
        )


def _size(item: Any) -> tuple[int, int]:
    """(tokens, rows of the vision tower)."""
    if isinstance(item, Prepared):
        return len(item.encoded), len(item.clip.rows) + len(item.entries.crops)
    return len(item["input_ids"]), len(item["pixel_values"])


def _name(part: Any) -> str:
    return getattr(part, "ds_name", type(part).__name__)


def _read(part: Any, index: int, name: str) -> Any:
    try:
        return part[index]
    except StopIteration as error:  # how the host's dataset says that it gave up
        raise DataError(
            f"dataset {name}: the host could not read record {index} nor any of those it drew "
            "instead; its messages are above"
        ) from error
