"""Fold a trained adapter into its host: LoRA into the layers, token rows into the tables.

What is left is a host of its own class that any tool can load, and a `sama_adapter/` without LoRA
for the senses. The tables grow when the new ids lie past them, and a host whose input and output
share a table gets two, because the adapter's rows differ. Used by `sama merge` and `sama export`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
from torch import nn

from sama_plugin.errors import HostError
from sama_plugin.model.adapters import lora_layers
from sama_plugin.model.attach import SamaModel, unwrap
from sama_plugin.model.checkpoint import FOLDER, save_adapter


@dataclass(frozen=True)
class Merged:
    """What was folded.

    Attributes:
        host: bare, with the adapter inside. tokenizer: knows the new tokens.
        lora: layers that held LoRA. rows: new token rows. grown: rows added to each table.
        untied: whether input and output embeddings shared a table before.
    """

    host: nn.Module
    tokenizer: Any
    lora: int
    rows: int
    grown: int
    untied: bool

    def summary(self) -> str:
        """One line."""
        untied = ", which had one table and now has two" if self.untied else ""
        return (
            f"{self.lora} LoRA layers and {self.rows} token rows folded into the host, tables "
            f"grown by {self.grown} rows{untied}"
        )


def merge(sama: SamaModel, model: Optional[nn.Module], folder: Path) -> Merged:
    """Fold LoRA and rows, write the plugin without LoRA to `folder`/sama_adapter, detach.

    Args:
        sama: an attached host with its adapter loaded; used up.
        model: what `load_adapter` returned: a PeftModel when there is LoRA.
        folder: an existing folder.

    Raises:
        HostError: a quantised host, or a tokenizer whose own ids lie past the host's tables.
    """
    _check(sama)
    lora = len(lora_layers(sama.host))
    if lora:
        model.merge_and_unload()
    sama.host.requires_grad_(False)
    save_adapter(sama, folder / FOLDER)
    adapter, modules, ids = sama.adapter, sama.modules, sama.ids.in_order()
    host = unwrap(sama.detach())
    untied = _untie(host, adapter)
    before = adapter.input_embeddings(host).weight.shape[0]
    count = max(before, max(ids) + 1)
    for table, rows in (
        (adapter.input_embeddings(host), modules.input_rows),
        (adapter.output_embeddings(host), modules.output_rows),
    ):
        _write_rows(table, ids, rows.weight, count)
    for owner, name in adapter.vocabulary_fields(host):
        setattr(owner, name, max(count, getattr(owner, name)))
    return Merged(host, sama.tokenizer, lora, len(ids), count - before, untied)


def _check(sama: SamaModel) -> None:
    quantised = [
        name
        for name, module in sama.host.named_modules()
        if type(module).__name__ in ("Linear4bit", "Linear8bitLt")
    ]
    if quantised:
        raise HostError(
            f"{quantised[0]} and {len(quantised) - 1} more layers are quantised; merge into the "
            "host in 16 bit, then quantise the result"
        )
    tables = (sama.adapter.input_embeddings(sama.host), sama.adapter.output_embeddings(sama.host))
    rows, first = min(table.weight.shape[0] for table in tables), min(sama.ids.in_order())
    if first > rows:
        raise HostError(
            f"the tokenizer's own ids reach {first - 1}, the host's tables have {rows} rows; "
            "tokenizer and host do not belong together"
        )


def _untie(host: nn.Module, adapter: Any) -> bool:
    """Give the output embeddings a table of their own."""
    table, head = adapter.input_embeddings(host), adapter.output_embeddings(host)
    tied = table.weight is head.weight
    if tied:
        head.weight = nn.Parameter(table.weight.detach().clone(), requires_grad=False)
    for config in (host.config, getattr(host.config, "text_config", None)):
        if config is not None and getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False
    return tied


@torch.no_grad()
def _write_rows(table: nn.Module, ids: tuple[int, ...], rows: torch.Tensor, count: int) -> None:
    """Rows `ids` of an embedding or head, grown to `count` rows where it is shorter."""
    weight = table.weight
    if weight.shape[0] < count:
        more = weight.new_zeros(count - weight.shape[0], weight.shape[1])
        table.weight = nn.Parameter(torch.cat([weight, more]), requires_grad=False)
    size = "num_embeddings" if isinstance(table, nn.Embedding) else "out_features"
    setattr(table, size, table.weight.shape[0])
    table.weight[list(ids)] = rows.to(table.weight)
