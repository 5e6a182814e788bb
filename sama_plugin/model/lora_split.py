"""LoRA under canonical names, `layers.<n>.<q|k|v|o|gate|up|down>.<A|B>`, whatever the host fuses.

A checkpoint is to fit every host of the same language model, and hosts differ in what they fuse
(Phi-3's `qkv_proj`, GLM's `gate_up_proj`). A fused layer's LoRA splits exactly: its parts share A,
each has its rows of B. The other way, parts with different A make a block-diagonal LoRA of the
summed rank. A checkpoint's update is `alpha / r` of its settings times B A at every rank; layers
that another program wrapped with a scale of their own are brought to that. Used by `checkpoint.py`.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, Mapping

import torch
from torch import Tensor

from sama_plugin.errors import CheckpointError
from sama_plugin.logs import warn_once
from sama_plugin.model.adapters import ADAPTER_NAME, lora_layers, matched_layers
from sama_plugin.model.config import LoraSettings

if TYPE_CHECKING:
    from sama_plugin.model.attach import SamaModel

Pairs = Mapping[str, "tuple[Tensor, Tensor]"]
"""Layer name (as on the bare host) to its A (rank, in) and B (out, rank)."""


def language_lora(sama: SamaModel) -> dict[str, Any]:
    """LoRA layers of the language model that have canonical names; others, which only another
    program can have added, are named once and stay in PEFT's own files.
    """
    layers = lora_layers(sama.host)
    pattern = re.compile(
        sama.adapter.lora_pattern(sama.host, tuple(sama.adapter.lora_names(sama.host)))
    )
    ours = {name: weights for name, weights in layers.items() if pattern.fullmatch(name)}
    others = [name for name in layers if name not in ours]
    if others:
        warn_once(
            "lora-elsewhere",
            f"LoRA on {len(others)} layers outside the language model's own ({others[0]}, ...) is "
            "in PEFT's files only, not in sama_adapter; name the language model in the script's "
            "LoRA targets",
        )
    return ours


def settings_in_use(sama: SamaModel) -> LoraSettings:
    """Rank, alpha and targets of the LoRA that is there, whoever added it; the configuration's
    where there is none.
    """
    layers = language_lora(sama)
    if not layers:
        return sama.config.lora
    rank = min(sama.host.get_submodule(name).r[ADAPTER_NAME] for name in layers)
    alpha = max(1, round(rank * _scale(sama, next(iter(layers)))))
    keys = [key for name in layers for key, _ in _parts(sama, name)]
    targets = dict.fromkeys(key.rpartition(".")[2] for key in keys)
    return dataclasses.replace(sama.config.lora, r=rank, alpha=alpha, targets=tuple(targets))


def split(sama: SamaModel, layers: Pairs, settings: LoraSettings) -> dict[str, Tensor]:
    """The host's LoRA weights under canonical names, scaled as `settings` say."""
    found = {}
    for name, (down, up) in layers.items():
        factor = _scale(sama, name) * settings.r / settings.alpha
        up = up if factor == 1 else up * factor
        for key, rows in _parts(sama, name):
            found[f"{key}.A"] = down
            found[f"{key}.B"] = up if rows is None else up[rows]
    return found


def join(
    sama: SamaModel, tensors: Mapping[str, Tensor], settings: LoraSettings, source: Any
) -> dict[str, Any]:
    """Canonical weights as one pair a layer of this host.

    Raises:
        CheckpointError: tensors of `source` are missing, left over or of other sizes than the
            host's layers.
    """
    used: set[str] = set()
    joined, wrong = {}, []
    for name in list(language_lora(sama)) or matched_layers(sama, settings):
        layer = sama.host.get_submodule(name)
        parts = _parts(sama, name)
        keys = [f"{key}.{letter}" for key, _ in parts for letter in "AB"]
        missing = [key for key in keys if key not in tensors]
        used.update(keys)
        if missing:
            wrong += [f"{key} missing" for key in missing]
            continue
        pairs = [(tensors[f"{key}.A"], tensors[f"{key}.B"], rows) for key, rows in parts]
        wrong += _misfits(keys, pairs, layer)
        if not wrong:
            joined[name] = _join(pairs, layer.out_features)
    wrong += [f"{key} unexpected" for key in tensors if key not in used]
    if wrong:
        raise CheckpointError(
            f"{source} does not fit the LoRA layers of this host: {'; '.join(wrong[:4])}"
            f"{' ...' if len(wrong) > 4 else ''}. Attach with the settings of the checkpoint "
            "(read_config)"
        )
    return joined


@torch.no_grad()
def fill(sama: SamaModel, joined: Pairs, settings: LoraSettings, source: Any) -> None:
    """Copy joined weights, scaled as `settings` say, into the host's LoRA layers.

    Raises:
        CheckpointError: a layer was wrapped with another rank before.
    """
    scaled = []
    for name, (ours_down, ours_up) in language_lora(sama).items():
        factor = _scale(sama, name) * settings.r / settings.alpha
        down, up = joined[name]
        scaled += [(name, ours_down, down), (name, ours_up, up if factor == 1 else up / factor)]
    for name, ours, theirs in scaled:
        if ours.shape != theirs.shape:
            raise CheckpointError(
                f"{source} needs LoRA of shape {tuple(theirs.shape)} at {name}, which was "
                f"wrapped with {tuple(ours.shape)} before; load it into a bare host"
            )
    for _, ours, theirs in scaled:
        ours.copy_(theirs)


def _scale(sama: SamaModel, name: str) -> float:
    """What a layer multiplies B A with."""
    return sama.host.get_submodule(name).scaling[ADAPTER_NAME]


def _parts(sama: SamaModel, name: str) -> list[tuple[str, Any]]:
    """(canonical key, rows or None for all) of each target in one layer."""
    number, layer = re.search(r"layers\.(\d+)\.(.+)$", name).groups()
    names = sama.adapter.lora_names(sama.host)
    targets = [target for target, host_layer in names.items() if host_layer == layer]
    rows = sama.adapter.fused_rows(sama.host, targets) if len(targets) > 1 else {}
    return [(f"layers.{number}.{target}", rows.get(target)) for target in targets]


def _misfits(keys: list[str], pairs: list[tuple], layer: Any) -> list[str]:
    wrong = []
    for place, (down, up, rows) in enumerate(pairs):
        height = layer.out_features if rows is None else _count(rows, layer.out_features)
        shapes = ((down.shape[0], layer.in_features), (height, down.shape[0]))
        for key, found, wanted in zip(keys[2 * place :], (down, up), shapes):
            if tuple(found.shape) != wanted:
                wrong.append(f"{key} {tuple(found.shape)} (expected {wanted})")
    return wrong


def _count(rows: Any, height: int) -> int:
    return len(range(height)[rows]) if isinstance(rows, slice) else len(rows)


def _join(pairs: list[tuple], height: int) -> tuple[Tensor, Tensor]:
    """One (A, B) for the parts of a layer: their common A, or all of them below each other."""
    first = pairs[0][0]
    if len(pairs) == 1:
        return first, pairs[0][1]
    shared = all(torch.equal(down, first) for down, _, _ in pairs)
    down = first if shared else torch.cat([down for down, _, _ in pairs])
    up = down.new_zeros(height, down.shape[0])
    start = 0
    for part, columns, rows in pairs:
        stop = start + part.shape[0]
        up[rows, start:stop] = columns
        start = start if shared else stop
    return down, up
