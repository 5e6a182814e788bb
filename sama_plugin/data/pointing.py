"""How a training sample points at its regions: on how many frames, and with a mask, a box, points
or a scribble.

Datasets give an object's mask on every annotated frame; a user points on one or two, and often with
a box or a click. The choice is drawn from a generator that the mixture seeds with (seed, epoch,
item), so it can be repeated anywhere.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sama_plugin.dialog.sample import Region, Sample
from sama_plugin.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from sama_plugin.media.prompts import RegionPrompt

KINDS = ("mask", "box", "points", "scribble")


@dataclass(frozen=True)
class PointingPolicy:
    """Frames a region keeps (0: all it has), how they are chosen, and the kinds of prompt, equally
    likely.

    Only mask prompts are turned into another kind; "mask" alone leaves every prompt as it is.
    """

    frames: int = 1
    how: Literal["random", "uniform", "first"] = "random"
    kinds: tuple[str, ...] = ("mask",)

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            raise ConfigError(f"pointing.kinds: unknown {unknown}; known: {', '.join(KINDS)}")


def point(sample: Sample, policy: PointingPolicy, rng: np.random.Generator) -> Sample:
    """The sample with every region pointed at as the policy says."""
    if not sample.regions:
        return sample
    turns = tuple(
        dataclasses.replace(
            turn, regions=tuple(_repoint(region, policy, rng) for region in turn.regions)
        )
        for turn in sample.turns
    )
    return dataclasses.replace(sample, turns=turns)


def as_kind(prompt: RegionPrompt, kind: str, rng: np.random.Generator) -> RegionPrompt:
    """A mask prompt as another kind: its box, one to three points in it, or a line through it."""
    if prompt.mask is None or kind == "mask":
        return prompt
    from sama_plugin.media import masks
    from sama_plugin.media.prompts import RegionPrompt

    mask = masks.decode(prompt.mask)
    box = masks.box_of(mask)
    if box is None:
        return prompt
    if kind == "box":
        return RegionPrompt.from_box(prompt.frame, box)
    if kind == "points":
        return RegionPrompt.from_points(prompt.frame, _inside(mask, int(rng.integers(1, 4)), rng))
    line = sorted(_inside(mask, 4, rng))
    width = max(2.0, 0.15 * min(box[2] - box[0], box[3] - box[1]))
    return RegionPrompt.from_scribble(prompt.frame, line, width)


def _repoint(region: Region, policy: PointingPolicy, rng: np.random.Generator) -> Region:
    prompts = list(region.prompts)
    if policy.frames and len(region.frames) > policy.frames:
        kept = _choose(region.frames, policy, rng)
        prompts = [prompt for prompt in prompts if prompt.frame in kept]
    kind = policy.kinds[int(rng.integers(len(policy.kinds)))]
    return dataclasses.replace(
        region, prompts=tuple(as_kind(prompt, kind, rng) for prompt in prompts)
    )


def _choose(frames: tuple[int, ...], policy: PointingPolicy, rng: np.random.Generator) -> set[int]:
    if policy.how == "first":
        return set(frames[: policy.frames])
    if policy.how == "uniform":
        count, total = policy.frames, len(frames)
        return {frames[int((i + 0.5) * total / count)] for i in range(count)}
    return {int(frame) for frame in rng.choice(frames, policy.frames, replace=False)}


def _inside(mask: np.ndarray, count: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    import numpy as np

    rows, columns = np.nonzero(mask)
    chosen = rng.integers(len(rows), size=count)
    return [(float(columns[i]) + 0.5, float(rows[i]) + 0.5) for i in chosen]
