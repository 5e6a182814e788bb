"""Caches side by side of a host whose layers lie on several devices."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import DynamicCache

from sama_plugin.model.lanes import Lanes


class OneDevice(TorchFunctionMode):
    """Refuses an index that lies elsewhere than what it indexes, as two GPUs would."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is Tensor.__getitem__:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            for one in index:
                assert not isinstance(one, Tensor) or one.device == args[0].device
        return function(*args, **(kwargs or {}))


def cache(length: int) -> DynamicCache:
    """One row (1, H, L, D), the second layer elsewhere."""
    past = DynamicCache()
    for number, device in enumerate(("cpu", "meta")):
        keys = torch.full((1, 2, length, 4), float(length), device=device)
        past.update(keys, keys + 1, number)
    return past


@pytest.fixture
def sama():
    adapter = SimpleNamespace(new_cache=lambda host: DynamicCache())
    return SimpleNamespace(device=torch.device("cpu"), host=None, adapter=adapter)


def test_rows_leave_layers_where_they_are(sama):
    with OneDevice():
        lanes = Lanes.laid(sama, [cache(3), cache(5), cache(2)])
        alone = lanes.alone(sama, 0)
        lanes.keep(sama, [0, 2])
        both = lanes.past
    assert lanes.own.sum(1).tolist() == [3, 2] and lanes.own.shape == (2, 3)
    for past, shape in ((alone, (1, 2, 3, 4)), (both, (2, 2, 3, 4))):
        for layer, device in zip(past.layers, ("cpu", "meta")):
            assert layer.keys.shape == layer.values.shape == shape
            assert layer.keys.device.type == layer.values.device.type == device
    assert alone.layers[0].keys.eq(3).all() and alone.layers[0].values.eq(4).all()
    assert [keys.amax().item() for keys in both.layers[0].keys] == [3, 2]
