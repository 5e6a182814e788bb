"""KV caches of several conversations side by side, one row each.

Rows differ in length, so some columns of a row are padding: on the left where caches of their own
were laid together, behind what all have read where only what follows differs. `own` says which
columns are a row's; positions count those alone, so that a row reads what it would read by itself.
Used by `generate_together.py`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from sama_plugin.model.attach import SamaModel


def branched(past: Any) -> Any:
    """A cache over the same tensors that grows by itself: transformers' dynamic layers never write
    into a tensor that they hold.
    """
    other = copy.copy(past)
    other.layers = [copy.copy(layer) for layer in past.layers]
    return other


@dataclass
class Lanes:
    """A cache of B rows.

    Attributes:
        past: the cache; every layer has keys and values (B, H, L, D).
        own: (B, L) bool, columns that belong to the row.
    """

    past: Any
    own: Tensor

    @classmethod
    def laid(cls, sama: SamaModel, pasts: Sequence[Any]) -> Lanes:
        """Caches of one row each, padded on the left to the longest."""
        lengths = torch.tensor([past.get_seq_length() for past in pasts], device=sama.device)
        longest = int(lengths.max())
        shared = sama.adapter.new_cache(sama.host)
        for number in range(len(pasts[0].layers)):
            layers = [past.layers[number] for past in pasts]
            parts = [
                torch.cat([F.pad(part, (0, 0, longest - part.shape[2], 0)) for part in kind])
                for kind in ([one.keys for one in layers], [one.values for one in layers])
            ]
            shared.update(*parts, number)
        columns = torch.arange(longest, device=sama.device)
        return cls(shared, columns >= longest - lengths[:, None])

    @classmethod
    def after(cls, sama: SamaModel, past: Any, rows: int) -> Lanes:
        """So many rows that all begin with what the one row of `past` has read."""
        shared = sama.adapter.new_cache(sama.host)
        for number, layer in enumerate(past.layers):
            parts = (part.expand(rows, -1, -1, -1) for part in (layer.keys, layer.values))
            shared.update(*parts, number)
        own = torch.ones(rows, past.get_seq_length(), dtype=torch.bool, device=sama.device)
        return cls(shared, own)

    def read(self, sama: SamaModel, ids: Tensor, real: Tensor) -> Any:
        """The next tokens of every row through the host.

        Args:
            ids: (B, n), the last column real in every row. real: (B, n) bool; the rest is padding.
        """
        before = self.own.sum(1, keepdim=True)  # (B, 1)
        self.own = torch.cat([self.own, real], 1)  # (B, L + n)
        inputs = {
            "input_ids": ids,
            "attention_mask": self.own.long(),
            "position_ids": (before + real.cumsum(1) - 1).clamp(min=0),
            "past_key_values": self.past,
        }
        return sama.adapter.read(sama.host, inputs, use_cache=True, logits_to_keep=1)

    def alone(self, sama: SamaModel, row: int) -> Any:
        """A cache of what one row has read, without padding."""
        columns = self.own[row].nonzero()[:, 0]
        past = sama.adapter.new_cache(sama.host)
        for number, layer in enumerate(self.past.layers):
            here = columns.to(layer.keys.device)  # a host's layers may lie on several
            kept = (part[row : row + 1, :, here] for part in (layer.keys, layer.values))
            past.update(*kept, number)
        return past

    def keep(self, sama: SamaModel, rows: Sequence[int]) -> None:
        """Drop all rows but these, and columns that belong to none of them."""
        if len(rows) == len(self.own):
            return
        own = self.own[list(rows)]
        columns = own.any(0).nonzero()[:, 0]
        past = sama.adapter.new_cache(sama.host)
        for number, layer in enumerate(self.past.layers):
            here = columns.to(layer.keys.device)
            kept = (part[list(rows)][:, :, here] for part in (layer.keys, layer.values))
            past.update(*kept, number)
        self.past, self.own = past, own[:, columns]
