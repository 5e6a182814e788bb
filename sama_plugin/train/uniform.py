"""The same modules on every rank, whatever its batch holds.

DDP waits for a gradient of every parameter, and ZeRO-3 for every rank to enter every module, frozen
ones too. A rank whose batch is text only therefore runs the plugin on an empty `SamaBatch` and,
under ZeRO-3, the vision tower on one black frame that nobody reads. A batch of which every record
was set aside has nothing to learn, and the mean over no token is no number: it gets one label, and
its loss counts nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

import torch

from sama_plugin.data.batch import SamaBatch, empty_batch
from sama_plugin.model.attach import SamaModel


def uniform_inputs(inputs: Mapping[str, Any], sama: SamaModel, sharded: bool) -> dict[str, Any]:
    """`inputs` of the host's forward with `sama` always there, and pixels too when weights are
    `sharded`."""
    inputs = dict(inputs)
    batch = inputs.get("sama")
    if batch is None:
        samples = inputs["input_ids"].shape[0]
        shape_size = sama.config.region.shape_size
        batch = empty_batch(samples, sama.modules.tokens, shape_size).to(sama.device)
    pixels = inputs.get("pixel_values")
    if pixels is None or pixels.shape[0] == 0:
        inputs.pop("pixel_values", None)
        if sharded:
            side = sama.adapter.image_size(sama.host)
            inputs["pixel_values"] = torch.zeros(1, 3, side, side, device=sama.device)
            batch = _with_unread_frame(batch)
    return {**inputs, "sama": batch}


def is_blank(batch: SamaBatch) -> bool:
    """Whether every record of a batch was set aside (told without asking the device)."""
    return 0 < batch.samples == len(batch.bad)


def one_label(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """`inputs` of a blank batch with the second token of the first row as its only label."""
    labels = inputs["labels"].clone()
    labels[0, 1] = inputs["input_ids"][0, 1]
    return {**inputs, "labels": labels}


def _with_unread_frame(batch: SamaBatch) -> SamaBatch:
    """One visual row that belongs to the first sample and that no slot, aggregator or placeholder
    reads."""
    zero = torch.zeros(1, dtype=torch.long, device=batch.frame_owner.device)
    return dataclasses.replace(
        batch, frame_owner=zero, frame_index=zero, frame_time=zero.to(batch.frame_time.dtype)
    )
