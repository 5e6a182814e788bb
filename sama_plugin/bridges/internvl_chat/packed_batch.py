"""One packed row as a batch: samples end to end, each with positions and loss weights of its own.

Stands at the script's name `packed_collate_fn`. Pixels and the plugin's part are those of the same
samples in rows of their own (`collate.py`); only tokens are laid out anew. The loss is weighted as
the script does: each supervised token by `len2weight` of its sample's supervised tokens. A first
token is never supervised: in an unpacked row nothing predicts it, here a neighbour would. How
the language model is told where samples end is `separation.py`. Counts that the host only prints
(`statistics`) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional, Sequence

import torch

from sama_plugin.bridges.internvl_chat.collate import AwaitedCollator, MixedCollator
from sama_plugin.bridges.internvl_chat.packed_rows import PackedRow
from sama_plugin.data.collate import Prepared
from sama_plugin.data.packing import boundaries, packed
from sama_plugin.dialog.spans import IGNORE
from sama_plugin.errors import PluginError

SEQUENCES = ("input_ids", "attention_mask", "labels")
ONE_ROW = (
    "--use_packed_ds True with {} rows a batch: the packed attention of this host takes one. Set "
    "--per_device_train_batch_size 1; --max_packed_tokens says how much a row holds"
)
NO_LENGTHS = (
    "--group_by_length True with --use_packed_ds True: packed rows are filled as samples are drawn "
    "and have no lengths to group by. Leave one of the two out"
)


@dataclass(frozen=True)
class Sequence1D:
    """Token ids and labels of one sample."""

    input_ids: list[int]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.input_ids)


class PackedCollator:
    """The call of the script's `packed_collate_fn`; an object, so that it can be marked as a patch
    and still goes to spawned workers."""

    def __call__(
        self,
        features: Sequence[PackedRow],
        data_collator: Any,
        len2weight: Callable[[int], float],
        max_item_length: int,
        micro_num: int = 1,
        loss_reduction_all_gather: Optional[bool] = None,
        pad_id: int = 0,
    ) -> dict[str, Any]:
        """`input_ids`, `position_ids`, `labels` (1, L), `loss_weight` (a list in a list), pixels
        and `sama`.

        Args:
            features: one row.
            data_collator: ours, at the script's name for its own.
            len2weight: supervised tokens of a sample to the weight of each.
            max_item_length: L of a padded row; 0 for as long as its samples.
            micro_num: rows a batch; the host's packed attention takes one.
            loss_reduction_all_gather: handed on where the host's forward knows it.
            pad_id: as in the script's function; the tokenizer's own is taken.

        Raises:
            PluginError: more than one row.
        """
        if len(features) != 1 or micro_num != 1:
            raise PluginError(ONE_ROW.format(max(len(features), micro_num)))
        mixed = data_collator.made if isinstance(data_collator, AwaitedCollator) else data_collator
        batch, labels = _laid(features[0], mixed, max_item_length)
        batch["loss_weight"] = [_weights(labels, batch["position_ids"], len2weight)]
        if loss_reduction_all_gather is not None:
            batch["loss_reduction_all_gather"] = loss_reduction_all_gather
        return batch


def _laid(row: PackedRow, mixed: MixedCollator, length: int) -> tuple[dict[str, Any], list[int]]:
    ours = [item for item in row.items if isinstance(item, Prepared)]
    theirs = [item for item in row.items if not isinstance(item, Prepared)]
    theirs += _padding(row, mixed, length)
    batch = mixed([*ours, *theirs])
    sequences = [one.encoded for one in ours]
    sequences += [
        Sequence1D(item["input_ids"].tolist(), item["labels"].tolist()) for item in theirs
    ]
    together = packed([one for one in sequences if len(one)], mixed.ours.pad_id)
    rest = {key: value for key, value in batch.items() if key not in SEQUENCES}
    if "pixel_values" in rest and not len(rest["pixel_values"]):
        del rest["pixel_values"]  # words of ours alone: the adapter gives the host a blank tile
    return {**rest, **together}, together["labels"][0].tolist()


def _padding(row: PackedRow, mixed: MixedCollator, length: int) -> list[dict[str, Any]]:
    """What fills a row, as one more item of the host that nobody reads or learns from."""
    tokens, images = max(length - row.tokens, 0), max(row.fill_images - row.images, 0)
    if not tokens and not images:
        return []
    shape = _tile_shape(row, mixed)
    images, shape = (0, (3, 1, 1)) if shape is None else (images, shape)
    return [
        {
            "input_ids": torch.full((tokens,), mixed.ours.pad_id),
            "labels": torch.full((tokens,), IGNORE),
            "pixel_values": torch.zeros(images, *shape),
            "image_flags": torch.zeros(images, dtype=torch.long),
        }
    ]


def _tile_shape(row: PackedRow, mixed: MixedCollator) -> Optional[tuple[int, ...]]:
    """(3, S, S) of a row's frames and tiles; None if it has none."""
    for item in row.items:
        if not isinstance(item, Prepared):
            return tuple(item["pixel_values"].shape[1:])
        if item.clip.rows:
            return tuple(mixed([item])["pixel_values"].shape[1:])
    return None


def _weights(
    labels: list[int], position_ids: torch.Tensor, len2weight: Callable[[int], float]
) -> list[float]:
    weights = []
    for start, end in boundaries(position_ids):
        kept = [label != IGNORE for label in labels[start:end]]
        weight = float(len2weight(sum(kept)))
        weights += [weight * supervised for supervised in kept]
    return weights
