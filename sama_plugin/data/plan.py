"""Which frames of a sample are read: the frame policy applied to one medium and its annotation.

Two things the policy cannot know: a clip annotated on every n-th frame is planned on those frames,
and masks are asked for on frames where they are known. Used by `decode.py`, the collator and
`peek.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Optional, Sequence

from sama_plugin.dialog.sample import Sample
from sama_plugin.media.frames import FramePlan, FramePolicy, plan_frames


def plan_sample(
    sample: Sample, policy: FramePolicy, total: int, fps: Optional[float] = None
) -> FramePlan:
    """The frame plan of a sample whose medium has `total` frames (or images; text: 0)."""
    kind = sample.media.kind
    if kind == "none":
        return FramePlan(total=0, aggregator=(), llm=(), prompted=())
    if kind == "images":
        return FramePlan(total=total, aggregator=(), llm=tuple(range(total)), prompted=())
    if kind == "image":
        return FramePlan(
            total=1, aggregator=(0,) if policy.aggregator else (), llm=(0,), prompted=(0,)
        )
    plan = _on_grid(sample, policy, total, fps)
    return dataclasses.replace(plan, prompted=_on_known_frames(sample, plan.prompted))


def _on_grid(sample: Sample, policy: FramePolicy, total: int, fps: Optional[float]) -> FramePlan:
    """The plan on annotated frames; regions on other frames are encoded besides."""
    stride, pointed = sample.media.frame_stride, sample.pointed_frames
    if stride == 1:
        return plan_frames(total, policy, keep=pointed, fps=fps)
    inside = tuple(frame // stride for frame in pointed if frame % stride == 0)
    grid = plan_frames(-(-total // stride), policy, keep=inside, fps=fps / stride if fps else None)
    beside = {frame for frame in pointed if frame % stride}
    return dataclasses.replace(
        grid,
        total=total,
        aggregator=_scaled(grid.aggregator, stride),
        llm=_scaled(grid.llm, stride),
        prompted=_scaled(grid.prompted, stride),
        extra=tuple(sorted(beside.union(_scaled(grid.extra, stride)))),
    )


def _scaled(frames: Sequence[int], stride: int) -> tuple[int, ...]:
    return tuple(frame * stride for frame in frames)


def _on_known_frames(sample: Sample, prompted: Sequence[int]) -> tuple[int, ...]:
    """Each prompted frame moved to the nearest one on which the sample's masks are known."""
    known = [set(target.track.rles) for target in sample.targets if target.track is not None]
    if not known:
        return tuple(prompted)
    frames = set.intersection(*known) or set.union(*known)
    return tuple(
        sorted({min(frames, key=lambda frame: (abs(frame - wish), frame)) for wish in prompted})
    )
