"""Which frames of a sample are read: the frame policy applied to one medium and its annotation.

Two things the policy cannot know: a clip that is annotated on every n-th frame is planned on those,
and masks are asked for on frames where they are known. Used by `decode.py`, the collator and
`peek.py`.
"""

from __future__ import annotations

import bisect
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
    stride = sample.media.frame_stride
    plan = plan_frames(total, policy, keep=sample.pointed_frames, fps=fps, stride=stride)
    return dataclasses.replace(plan, prompted=_on_known_frames(sample, plan.prompted))


def _on_known_frames(sample: Sample, prompted: Sequence[int]) -> tuple[int, ...]:
    """Each prompted frame moved to the nearest one on which the sample's masks are known."""
    known = [set(target.track.rles) for target in sample.targets if target.track is not None]
    frames = sorted(known and (set.intersection(*known) or set.union(*known)))
    if not frames:
        return tuple(prompted)
    return tuple(sorted({_nearest(frames, wish) for wish in prompted}))


def _nearest(frames: Sequence[int], wish: int) -> int:
    """The one of ascending `frames` that lies nearest, the earlier of two."""
    at = bisect.bisect_left(frames, wish)
    return min(frames[max(at - 1, 0) : at + 1], key=lambda frame: (abs(frame - wish), frame))
