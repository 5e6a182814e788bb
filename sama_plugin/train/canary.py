"""Stops a training that would teach nothing.

When a script drops the plugin's inputs, replaces the host's `forward` or compiles it, training runs
on happily and the plugin learns nothing. So the first batches are watched: a batch with region
slots must have gone through the region encoder, a batch with supervised [SEG] tokens must have
reached the mask losses, and no part of the loss may be infinite or NaN.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any, Iterator, Mapping, Optional

from sama_plugin.data.batch import SamaBatch
from sama_plugin.errors import PluginError
from sama_plugin.model.attach import SamaModel

WATCHED = 256
"""Micro-steps after which the canary rests, if the data holds no regions or no [SEG]."""
UNLABELLED = 16
"""[SEG] batches in a row that may come without a single mask label before that is an error."""


class Canary:
    """Watches micro-steps until it has seen one with regions and one with masks work."""

    def __init__(self, sama: SamaModel):
        self.sama = sama
        self.steps = 0
        self.unlabelled = 0
        self.regions_seen = False
        self.masks_seen = False

    @property
    def resting(self) -> bool:
        """Whether everything was seen, or enough batches went by."""
        return (self.regions_seen and self.masks_seen) or self.steps >= WATCHED

    @contextlib.contextmanager
    def watch(self, inputs: Mapping[str, Any]) -> Iterator[None]:
        """Put this around the forward pass of one micro-step.

        Raises:
            PluginError: the plugin did not take part in it as it should have.
        """
        if self.resting:
            yield
            return
        self.steps += 1
        encoded: list[int] = []

        def count(module: Any, args: tuple, output: Any) -> None:
            encoded.append(output.tokens.flatten(0, -2).shape[0])

        handle = self.sama.modules.region.register_forward_hook(count)
        self.sama.last_losses = {}
        try:
            yield
        finally:
            handle.remove()
        self._check_regions(inputs, sum(encoded))
        self._check_finite(inputs)
        self._check_masks(inputs)

    def _check_regions(self, inputs: Mapping[str, Any], encoded: int) -> None:
        slots = int((inputs["input_ids"] == self.sama.ids.region).sum())
        if slots != encoded:
            raise PluginError(
                f"micro-step {self.steps}: {slots} region slots in {_names(inputs)}, {encoded} "
                "were written. The plugin's inputs do not reach the model: the batch must hold "
                "`sama=` (remove_unused_columns=False), and nothing may replace or compile the "
                "host's forward after attach"
            )
        self.regions_seen = self.regions_seen or slots > 0

    def _check_finite(self, inputs: Mapping[str, Any]) -> None:
        parts = {name: float(part) for name, part in self.sama.last_losses.items()}
        if all(math.isfinite(value) for value in parts.values()):
            return
        blame = "what was loaded (NaN weights, or a host in float16: use bf16)"
        if self.steps > 1:
            blame += ", the learning rate, or these samples (`sama data check`)"
        raise PluginError(
            f"micro-step {self.steps}: the loss of {_names(inputs)} is not finite: "
            f"{', '.join(f'{name} {value:.4g}' for name, value in parts.items())}. One such step "
            f"makes every trained weight NaN, so training stops before it. Look at {blame}"
        )

    def _check_masks(self, inputs: Mapping[str, Any]) -> None:
        if not int((inputs["labels"] == self.sama.ids.seg).sum()):
            return
        batch: Optional[SamaBatch] = inputs.get("sama")
        labelled = 0
        if batch is not None and batch.label_target is not None:
            labelled = batch.label_target.shape[0]
        others = ("text", "router")
        parts = self.sama.last_losses.items()
        loss = sum(float(part) for name, part in parts if name not in others)
        if labelled and not loss > 0:
            raise PluginError(
                f"micro-step {self.steps}: {labelled} masks of {_names(inputs)} gave no mask loss "
                f"(sum of parts {loss}); is the model still attached, and does its forward receive "
                "`sama=`?"
            )
        self.unlabelled = 0 if labelled else self.unlabelled + 1
        self.masks_seen = self.masks_seen or labelled > 0
        if self.unlabelled >= UNLABELLED:
            raise PluginError(
                f"{self.unlabelled} batches with [SEG] tokens had no mask label at all, last "
                f"{_names(inputs)}; check the masks of the data with `sama data check`"
            )


def _names(inputs: Mapping[str, Any]) -> str:
    batch = inputs.get("sama")
    names = batch.sample_ids if batch is not None else []
    return f"samples {', '.join(names[:4])}" if names else "the batch"
