"""Plugin modules on a host of another width or language model: what may stay, what starts again.

A tensor may stay when nothing about it depends on the language model: its shape is the same
whatever the width. That is tried rather than listed: the modules are built for two widths and
compared. So a same-width host with another language model also gets new token rows, projections and
[SEG] head, whose old weights would mean nothing there. Used by `sama swap-llm`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Mapping, Union

import torch
from torch import Tensor

from sama_plugin.dialog.tokens import NEW_TOKENS
from sama_plugin.errors import CheckpointError
from sama_plugin.model.checkpoint import read_modules
from sama_plugin.model.sama import SamaModules

if TYPE_CHECKING:
    from sama_plugin.model.attach import SamaModel


@dataclass(frozen=True)
class Carried:
    """Number of weights by part of the plugin, kept and fresh."""

    kept: Mapping[str, int]
    fresh: Mapping[str, int]


def carry_modules(sama: SamaModel, folder: Union[str, Path]) -> Carried:
    """Load the width-independent tensors of a `sama_adapter/` into freshly attached modules.

    Attach with the folder's settings (`read_config`) first. LoRA is not carried: it belongs to the
    layers of one language model.

    Raises:
        CheckpointError: a tensor is missing or of another shape, as with other settings.
    """
    stored, ours = read_modules(folder), sama.modules.state_dict()
    chosen = {}
    for name in independent(sama):
        if name not in stored or stored[name].shape != ours[name].shape:
            raise CheckpointError(
                f"{folder} has no {name} of shape {tuple(ours[name].shape)}; attach with its own "
                "settings (read_config) before carrying its modules over"
            )
        chosen[name] = stored[name]
    sama.modules.load_state_dict(chosen, strict=False)
    return Carried(_count(chosen), _count({n: v for n, v in ours.items() if n not in chosen}))


def independent(sama: SamaModel) -> list[str]:
    """Names of the plugin's tensors whose shapes do not depend on the language model's width."""
    ours = sama.modules
    scale = 1.0 if sama.config.compat == "default" else None
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        other = SamaModules(
            sama.config, 2 * ours.width, ours.grid, len(NEW_TOKENS), sama.segmenter, scale
        ).state_dict()
    return [name for name, value in ours.state_dict().items() if other[name].shape == value.shape]


def _count(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for name, value in tensors.items():
        counts[name.partition(".")[0]] += value.numel()
    return dict(counts)
