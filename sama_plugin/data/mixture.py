"""Several sources as one endless, repeatable sequence of items.

Item g belongs to epoch g // len. Every source has its own stream of shuffled passes, of which an
epoch takes the next share, so each sample is seen exactly as often as the mixture says, also when
shares are fractions. Within an epoch the items of each (source, group) are spread evenly: every
batch holds about the same mix of grounded and plain samples, and no step waits for one full of
masks. The order depends on (seed, epoch) only, not on workers, ranks or where a run was resumed.
Samplers hand out the numbers g (`train`), so worker processes need not be told the epoch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Optional, Sequence, Union

import numpy as np
from torch.utils.data import Dataset

from sama_plugin.data.pointing import point
from sama_plugin.data.report import BAD_RECORD, BadRecord
from sama_plugin.data.sources import Item, Source
from sama_plugin.data.wording import rephrase
from sama_plugin.errors import ConfigError


class MixtureDataset(Dataset):
    """A map-style torch dataset over an endless sequence of items.

    Args:
        sources: opened sources.
        seed: decides every order and every pointing.
        samples: items of an epoch, shared by the sources' weights (what a cap cuts off is not
            shared out again); None gives every source its length times `repeat`.
    """

    def __init__(self, sources: Sequence[Source], seed: int = 0, samples: Optional[int] = None):
        self.sources, self.seed = list(sources), seed
        self.shares = _shares(self.sources, samples)
        self._length = sum(self.shares)
        if self._length == 0:
            raise ConfigError("the mixture is empty: every source has repeat or weight 0")
        self._groups = [_groups(source) for source in self.sources]
        self._order = lru_cache(maxsize=2)(self._make_order)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> Union[Item, BadRecord]:
        """The sample as it is pointed at this time; a `BadRecord` if it cannot be read."""
        epoch, position = divmod(int(number), self._length)
        source, index = self.order(epoch)[position]
        config = self.sources[source].config
        rng = np.random.default_rng([self.seed, epoch, position, 1])
        try:
            sample = rephrase(self.sources[source][int(index)], config.ask, rng)
            return Item(point(sample, config.pointing, rng), config.frames, config)
        except BAD_RECORD as error:
            return BadRecord.of(error, config.name, config.path, f"sample {index}")

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_order"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2)(self._make_order)

    def order(self, epoch: int) -> np.ndarray:
        """(len, 2) int: source and sample of every item of an epoch."""
        return self._order(epoch)

    def is_grounded(self, number: int) -> bool:
        """Whether item `number` has mask targets, as far as its source knows."""
        epoch, position = divmod(int(number), self._length)
        source, index = self.order(epoch)[position]
        return bool(self._groups[source][index])

    def _make_order(self, epoch: int) -> np.ndarray:
        items: list[np.ndarray] = []
        places: list[np.ndarray] = []
        for number, (source, share) in enumerate(zip(self.sources, self.shares)):
            indices = self._take(number, len(source), epoch * share, share)
            rng = np.random.default_rng([self.seed, epoch, number, 2])
            place = np.empty(share)
            grounded = self._groups[number][indices]
            for group in (False, True):
                members = np.flatnonzero(grounded == group)
                place[members] = _spread(len(members), rng)
            items.append(np.stack([np.full(share, number), indices], axis=1))
            places.append(place)
        order = np.argsort(np.concatenate(places), kind="stable")
        return np.concatenate(items)[order]

    def _take(self, source: int, length: int, start: int, count: int) -> np.ndarray:
        """Items [start, start + count) of a source's endless stream of shuffled passes."""
        taken, end = [], start + count
        for turn in range(start // length, -(-end // length)):
            shuffled = np.random.default_rng([self.seed, turn, source, 3]).permutation(length)
            first = turn * length
            taken.append(shuffled[max(start - first, 0) : end - first])
        return np.concatenate(taken) if taken else np.zeros(0, dtype=int)


def _shares(sources: Sequence[Source], samples: Optional[int]) -> list[int]:
    """Items of each source in an epoch; rounding surplus goes to the largest remainders."""
    caps = np.array([source.config.cap or np.iinfo(int).max for source in sources])
    if samples is None:
        exact = [len(source) * source.config.repeat for source in sources]
        return np.minimum(np.round(exact).astype(int), caps).tolist()
    weights = np.array([source.config.weight for source in sources], dtype=float)
    if not weights.sum():
        raise ConfigError("the mixture is empty: every source has weight 0")
    exact = samples * weights / weights.sum()
    shares = np.floor(exact).astype(int)
    surplus = np.argsort(shares - exact, kind="stable")[: samples - shares.sum()]
    shares[surplus] += 1
    return np.minimum(shares, caps).tolist()


def _groups(source: Source) -> np.ndarray:
    """(len,) bool: whether each sample has mask targets."""
    if source.config.group != "auto":
        return np.full(len(source), source.config.group == "grounded")
    return source.grounded


def _spread(count: int, rng: np.random.Generator) -> np.ndarray:
    """One random place in each of `count` equal parts of [0, 1)."""
    return (np.arange(count) + rng.random(count)) / max(count, 1)
