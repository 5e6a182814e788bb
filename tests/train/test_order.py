"""Every item of the mixture is trained once: on any ranks, micro-steps, batches and resume points,
through the sharding that the Trainer uses.
"""

from __future__ import annotations

import tempfile

from accelerate.data_loader import BatchSamplerShard
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from sama_plugin.train.order import EpochOrder

STEPS = 12


def trained(length, ranks, batch, accumulate, start=0, stop=STEPS, folder=None):
    """Item numbers of every optimiser step from `start` on, as the Trainer's loop deals them; with
    a folder, the checkpoint there is resumed and the one of `stop` written."""
    order = EpochOrder(range(length), batch * ranks * accumulate)
    if folder is not None and start:
        order.load(folder)
    found = []
    while start < stop:
        order.begin(start)
        shards = [
            list(BatchSamplerShard(BatchSampler(order, batch, False), ranks, rank))
            for rank in range(ranks)
        ]
        assert len({len(shard) for shard in shards}) == 1, "no rank waits for another"
        micro_steps = len(shards[0])
        assert micro_steps == order.steps * accumulate, "whole steps only"
        first = start % order.steps
        for step in range(first, min(order.steps, first + stop - start)):
            here = slice(step * accumulate, (step + 1) * accumulate)
            found.append(sorted(n for shard in shards for part in shard[here] for n in part))
            start += 1
    if folder is not None:
        order.save(folder, stop)
    return found


SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 5), st.integers(1, 4))


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 90), shape=SHAPES)
def test_items_in_order_each_once(length, shape):
    ranks, batch, accumulate = shape
    items = [number for step in trained(length, *shape) for number in step]
    assert items == list(range(STEPS * ranks * batch * accumulate))


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 90),
    shapes=st.lists(SHAPES, min_size=2, max_size=4),
    stops=st.lists(st.integers(1, 9), min_size=4, max_size=4),
)
def test_resumed_with_other_ranks_and_steps(length, shapes, stops):
    items, done = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for shape, more in zip(shapes, stops):
            steps = trained(length, *shape, start=done, stop=done + more, folder=folder)
            items += [number for step in steps for number in step]
            done += more
    assert items == list(range(len(items)))


def test_a_checkpoint_of_before_goes_on_with_its_steps(tmp_path):
    order = EpochOrder(range(10), 4)
    order.load(tmp_path)
    order.begin(5)
    assert list(order) == list(range(12, 24)), "step 5 is the last of the second epoch"
