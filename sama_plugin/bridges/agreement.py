"""All ranks of a job run the same patched code, or none trains.

Nodes of a cluster can differ in what is installed; a rank that patched something else would train
another model and, at best, hang. Ranks compare their ledgers and library versions once, when the
Trainer is made.
"""

from __future__ import annotations

from typing import Any

from sama_plugin import __version__
from sama_plugin.errors import PluginError
from sama_plugin.patching.ledger import Ledger


def check_ranks(ledger: Ledger) -> None:
    """Compare this rank's ledger with the others'; alone, nothing is done.

    Raises:
        PluginError: on every rank, with what differs.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, (_versions(), ledger.lines()))
    first = gathered[0]
    for rank, found in enumerate(gathered):
        if found != first:
            raise PluginError(
                f"rank {rank} runs other code than rank 0: "
                f"{'; '.join(_differences(first, found))}. Install the same versions on every node"
            )


def _versions() -> list[str]:
    import torch
    import transformers

    return [
        f"sama_plugin {__version__}",
        f"torch {torch.__version__}",
        f"transformers {transformers.__version__}",
    ]


def _differences(first: Any, other: Any) -> list[str]:
    return [
        f"{here or 'nothing'!r} there, {there or 'nothing'!r} on rank 0"
        for mine, theirs in zip(first, other)
        for there, here in _paired(mine, theirs)
        if there != here
    ][:4]


def _paired(left: list[str], right: list[str]) -> list[tuple[str, str]]:
    length = max(len(left), len(right))
    return list(zip(*(side + [""] * (length - len(side)) for side in (list(left), list(right)))))
