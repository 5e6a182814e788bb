"""Whole parameters where DeepSpeed ZeRO-3 keeps shards.

Outside a module's forward pass a partitioned parameter is empty. What reads or writes weights at
other times (attaching to a host that was loaded in shards, saving) does it inside `whole`.
"""

from __future__ import annotations

import contextlib
from typing import Iterable, Iterator

from torch import nn


@contextlib.contextmanager
def whole(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Inside, those of `parameters` that are partitioned are whole on every rank.

    Every rank must enter, with the same parameters. Changes made inside are lost.
    """
    shards = {id(item): item for item in parameters if hasattr(item, "ds_id")}
    if not shards:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(shards.values())):
        yield
