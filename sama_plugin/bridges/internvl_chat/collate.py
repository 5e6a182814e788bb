"""One batch of the host's items and ours.

Ours stand first, the host's behind them: rows of pixels and placeholders then lie in one order,
whatever the draw. The host's tiles are visual rows that the language model reads and nobody else;
a text-only item of the host brings a blank tile that nobody reads. Padding is masked by length,
where the host's own collator masks every token of id 0. Which rows the language model reads is
said by `SamaBatch.keep_rows`; the adapter turns it into the host's `image_flags`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Optional, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sama_plugin.data.batch import SamaBatch, empty_batch
from sama_plugin.data.collate import Collator, Prepared
from sama_plugin.dialog.spans import IGNORE
from sama_plugin.errors import PluginError


@dataclasses.dataclass(frozen=True)
class MixedCollator:
    """Collates `Prepared` samples and the host's feature dicts.

    Attributes:
        ours: lays out our samples; it must pickle without a model.
        tokens: visual tokens of one row.
    """

    ours: Collator
    tokens: int

    def __call__(self, items: Sequence[Any]) -> dict[str, Any]:
        """`input_ids`, `attention_mask`, `labels` (B, L), `pixel_values` (NF, 3, S, S), `sama`."""
        mine = [item for item in items if isinstance(item, Prepared)]
        theirs = [item for item in items if not isinstance(item, Prepared)]
        if not theirs:
            return self.ours.lay(mine)
        batch = self.ours.lay(mine) if mine else {"sama": self._none()}
        return self._joined(batch, theirs)

    def _none(self) -> SamaBatch:
        return empty_batch(0, self.tokens, self.ours.shape_size)

    def _joined(self, batch: dict[str, Any], theirs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        pad = self.ours.pad_id
        masks = [torch.ones(len(item["input_ids"]), dtype=torch.long) for item in theirs]
        joined = {
            "input_ids": _padded(batch, "input_ids", [item["input_ids"] for item in theirs], pad),
            "attention_mask": _padded(batch, "attention_mask", masks, 0),
            "labels": _padded(batch, "labels", [item["labels"] for item in theirs], IGNORE),
        }
        pixels = [item["pixel_values"] for item in theirs]
        if "pixel_values" in batch:
            pixels.insert(0, batch["pixel_values"])
        return {
            **joined,
            "pixel_values": torch.cat(pixels),
            "sama": _with_tiles(batch["sama"], theirs),
        }


@dataclasses.dataclass
class AwaitedCollator:
    """Stands at the script's name for its collator before the model is attached, and hands on
    afterwards; it pickles as what it hands on to.
    """

    mixed: Optional[MixedCollator] = None

    def __call__(self, items: Sequence[Any]) -> dict[str, Any]:
        return self.made(items)

    def __reduce__(self) -> Any:
        made = self.made
        return MixedCollator, (made.ours, made.tokens)

    @property
    def made(self) -> MixedCollator:
        """What it hands on to."""
        if self.mixed is None:
            raise PluginError(
                "the script collates before it calls build_datasets, where the plugin is attached"
            )
        return self.mixed


def _padded(batch: Mapping[str, Any], key: str, rows: Sequence[Tensor], value: int) -> Tensor:
    """(B, L): our rows, then theirs, to the longest of both."""
    rows = [*batch.get(key, ()), *rows]
    return pad_sequence(list(rows), batch_first=True, padding_value=value)


def _with_tiles(batch: SamaBatch, theirs: Sequence[Mapping[str, Any]]) -> SamaBatch:
    """`batch` with the host's tiles as rows of the samples behind ours."""
    first, rows = batch.samples, batch.frame_owner.shape[0]
    flags = torch.cat([item["image_flags"].reshape(-1) for item in theirs])
    owners = [
        torch.full((len(item["pixel_values"]),), first + number, dtype=torch.long)
        for number, item in enumerate(theirs)
    ]
    blank, read = torch.zeros(len(flags)), flags.nonzero().flatten()
    return dataclasses.replace(
        batch,
        frame_owner=torch.cat([batch.frame_owner, *owners]),
        frame_index=torch.cat([batch.frame_index, blank.long()]),
        frame_time=torch.cat([batch.frame_time, blank]),
        keep_rows=torch.cat([batch.keep_rows, rows + read]),
        keep_moment=torch.cat([batch.keep_moment, blank[read]]),
        sample_ids=[*batch.sample_ids, *(f"host item {n}" for n in range(len(theirs)))],
    )
