"""KV caches for language models whose own code knows no cache object.

InternLM2 comes as code of the tree or of the checkpoint, written when a cache was a tuple with one
(key, value) pair a layer: it takes such a tuple and gives a longer one. Conversations keep a
`DynamicCache`, which they crop, copy and lay together, so the two are translated at every step.
Used by `adapter.py`.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence

from torch import Tensor

Pairs = Sequence[tuple[Tensor, Tensor]]
"""Keys and values (B, H, L, D) of every layer."""


def pairs_of(cache: Any) -> Optional[Pairs]:
    """What `cache` holds, or None while it is empty."""
    if cache.get_seq_length() == 0:
        return None
    if hasattr(cache, "layers"):
        return tuple((layer.keys, layer.values) for layer in cache.layers)
    return tuple(zip(cache.key_cache, cache.value_cache))  # transformers before 4.54


def extend(cache: Any, pairs: Pairs) -> None:
    """Append to `cache` the tokens that `pairs` hold beyond it."""
    known = cache.get_seq_length()
    for number, (keys, values) in enumerate(pairs):
        cache.update(keys[:, :, known:], values[:, :, known:], number)  # (B, H, new, D)
