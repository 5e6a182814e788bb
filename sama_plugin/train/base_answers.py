"""Keeping the base's own answers: on plain chat, the adapted model stays near what it was.

LoRA that learns regions and masks also moves answers that need neither. Plain chat in the mixture
teaches the words of its references; the base knows more than that, how likely every other word is.
Samples without regions, context and [SEG] (a chat source says `frames: {aggregator: 0}`) are
answered by the base too, LoRA switched off and without gradient, and the divergence
KL(base || adapted) joins the loss. Used by `trainer.py` when `train.base_weight` is set.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

import torch
from torch import Tensor

from sama_plugin.data.batch import SamaBatch, empty_batch
from sama_plugin.dialog.spans import IGNORE
from sama_plugin.model.attach import SamaModel


def plain_rows(batch: SamaBatch) -> Tensor:
    """(n,) long: the samples of a padded batch that need nothing of the plugin, ascending."""
    targets = batch.target_owner if batch.target_owner is not None else batch.prompt_owner[:0]
    busy = torch.cat([batch.prompt_owner, targets])
    every = torch.arange(batch.samples, device=busy.device)
    return every[~torch.isin(every, busy)]


@torch.no_grad()
def base_logits(sama: SamaModel, model: Any, inputs: Mapping[str, Any], rows: Tensor) -> Tensor:
    """(n, L, V) of the host without LoRA on plain `rows`; columns of our tokens mean nothing.

    Args:
        model: the PeftModel around the host. inputs: as for its training forward.
    """
    batch = inputs["sama"].to(rows.device)
    given = {name: inputs[name][rows] for name in ("input_ids", "attention_mask")}
    mine = torch.isin(batch.frame_owner, rows)  # (NF,)
    if mine.any():
        given["pixel_values"] = inputs["pixel_values"][mine]
    with model.disable_adapter(), sama.call(_narrowed(sama, batch, rows, mine)) as call:
        call.looks = False
        return sama.host(**sama.adapter.forward_inputs(sama.host, given)).logits


def _narrowed(sama: SamaModel, batch: SamaBatch, rows: Tensor, mine: Tensor) -> SamaBatch:
    """The frames of `rows`, which are those of `mine`, and nothing else."""
    kept, place = mine[batch.keep_rows], mine.cumsum(0) - 1
    none = empty_batch(len(rows), sama.modules.tokens, sama.config.region.shape_size)
    return dataclasses.replace(
        none.to(rows.device),
        frame_owner=torch.searchsorted(rows, batch.frame_owner[mine]),
        frame_index=batch.frame_index[mine],
        frame_time=batch.frame_time[mine],
        keep_rows=place[batch.keep_rows[kept]],
        keep_moment=batch.keep_moment[kept],
        sample_ids=[batch.sample_ids[row] for row in rows.tolist()],
    )


def divergence(adapted: Tensor, base: Tensor, labels: Tensor, ours: Tensor) -> Tensor:
    """KL(base || adapted), mean over the labelled tokens; zero where there is none.

    Args:
        adapted, base: (B, L, V) logits. labels: (B, L) long, -100 where nothing is learned.
        ours: ids of the plugin's tokens; the base never says them.
    """
    learned = labels[:, 1:] != IGNORE
    said = adapted[:, :-1][learned].float().log_softmax(-1)  # (n, V)
    wanted = base[:, :-1][learned].float().index_fill(-1, ours, float("-inf")).log_softmax(-1)
    apart = (wanted.exp() * (wanted - said)).masked_fill(wanted.isneginf(), 0.0)
    return apart.sum() / max(1, int(learned.sum()))
