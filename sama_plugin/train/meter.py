"""Parts of the training loss, averaged between two log lines and over all ranks.

The parts are those of `SamaModel.last_losses`; a micro-step without masks counts with zero mask
losses, so the parts add up to the logged loss.
"""

from __future__ import annotations

from typing import Any, Mapping, Optional

import torch
from torch import Tensor

PARTS = (
    *("text", "mask_bce", "mask_dice", "object_score"),
    *("place", "click", "look", "router", "base"),
)


class LossMeter:
    """Sums on the device, read once a log line: no synchronisation in between."""

    def __init__(self) -> None:
        self._sums: Optional[Tensor] = None  # (parts + 1,), the last entry counts steps

    def add(self, losses: Mapping[str, Tensor], share: float = 1.0) -> None:
        """Count one micro-step as `share` of a step; nothing happens when the plugin was not called
        in it.
        """
        if not losses:
            return
        device = losses["text"].device
        values = [losses.get(part, torch.zeros((), device=device)).float() for part in PARTS]
        row = share * torch.stack([*values, torch.ones((), device=device)])
        self._sums = row if self._sums is None else self._sums + row

    def drain(self, accelerator: Any) -> dict[str, float]:
        """Averages since the last call, as "loss_<part>"; every rank must call it."""
        sums = self._sums
        if sums is None:
            sums = torch.zeros(len(PARTS) + 1, device=accelerator.device)
        self._sums = None
        *parts, count = accelerator.reduce(sums, reduction="sum").tolist()
        return {f"loss_{name}": value / count for name, value in zip(PARTS, parts)} if count else {}
