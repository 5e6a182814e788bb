"""One of several processes that share a run, as torchrun and accelerate start them.

Videos are dealt out by their place in the benchmark file, so every process knows its share without
talking, and a run that is resumed with another number of processes stays right. The processes meet
once, at the end, over gloo on the CPU.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Mapping, Optional, Sequence, TypeVar

from sama_plugin.errors import ConfigError

Item = TypeVar("Item")
LONGEST_WAIT = timedelta(days=7)
"""A process with easy videos waits so long for the slowest one."""


@dataclass(frozen=True)
class Rank:
    """Process `number` of `world`; `local` is its number on this machine."""

    number: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Rank:
        """From RANK, WORLD_SIZE and LOCAL_RANK; alone where they are not set."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        try:
            number, world, local = (int(environment.get(n, d)) for n, d in zip(names, "010"))
        except ValueError as error:
            raise ConfigError(
                f"RANK, WORLD_SIZE and LOCAL_RANK should be numbers: {error}"
            ) from error
        if not 0 <= number < world:
            raise ConfigError(f"RANK is {number} and WORLD_SIZE {world}; use torchrun to set them")
        return cls(number, world, local)

    @property
    def first(self) -> bool:
        """Whether this process scores and prints."""
        return self.number == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Every `world`-th item, from place `number` on."""
        return list(items[self.number :: self.world])

    def device(self) -> Optional[str]:
        """The GPU of this process; None (the default device) where it is alone or has none."""
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return f"cuda:{self.local % count}" if self.world > 1 and count else None

    def meet(self) -> None:
        """Wait until every process is here."""
        if self.world == 1:
            return
        import torch.distributed as distributed

        if not distributed.is_initialized():
            distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
        distributed.barrier()


def of_this_process() -> Rank:
    """`Rank` of the running process."""
    return Rank.of_environment(os.environ)
