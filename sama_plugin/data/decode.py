"""The pixels a sample needs, and no others: one reader, one call, planned frames only.

Regions and masks are checked against the real clip here, because only here is its size known for
certain. Used by the collator (in worker processes) and by `peek.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence, Union

import numpy as np

from sama_plugin.data.plan import plan_sample
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import DataError, MediaError, RegionError
from sama_plugin.media.frames import FramePlan, FramePolicy
from sama_plugin.media.video import open_video


@dataclass(frozen=True)
class Clip:
    """A sample's decoded frames.

    Attributes:
        plan: the frames that are read.
        rows: frames through the vision tower, in the order of `plan.rows`; uint8 (H, W, 3) each,
            all of one size except for several images.
        times: seconds of `plan.rows`.
        segments: frames on which masks are asked for, with pixels (H, W, 3); empty without known
            masks.
    """

    plan: FramePlan
    rows: tuple[np.ndarray, ...]
    times: tuple[float, ...]
    segments: dict[int, np.ndarray]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames; (0, 0) for text."""
        return self.rows[0].shape[:2] if self.rows else (0, 0)


def read_clip(sample: Sample, frames: Union[FramePolicy, FramePlan], masks: bool = True) -> Clip:
    """Plan and decode.

    Args:
        frames: a policy, or a plan made before.
        masks: also decode the frames on which masks are supervised.

    Raises:
        DataError: the medium cannot be read, or a region or mask does not fit it; names the sample.
    """
    if not sample.media.sources:
        return Clip(_plan(sample, frames, 0, None), (), (), {})
    try:
        if sample.media.kind == "images":
            return _read_images(sample, frames)
        return _read_video(sample, frames, masks)
    except (MediaError, RegionError, OSError) as error:
        raise DataError(
            str(error), file=sample.source or None, record=sample.id, reason="unreadable_media"
        ) from error


def segment_frames(sample: Sample, plan: FramePlan) -> tuple[int, ...]:
    """Prompted frames on which the mask of some target is known."""
    tracks = [target.track for target in sample.targets if target.track is not None]
    return tuple(frame for frame in plan.prompted if any(frame in track.rles for track in tracks))


def check_fits(sample: Sample, size: Sequence[int], total: int) -> None:
    """Whether every region and mask lies in a clip of this (height, width) and length.

    Raises:
        RegionError: a region does not. DataError: a mask has another size.
    """
    height, width = size
    for region in sample.regions:
        for prompt in region.prompts:
            prompt.validate(height, width, total)
    for number, target in enumerate(sample.targets):
        if target.track is None:
            continue
        last = max((frame for frame, rle in target.track.rles.items() if rle), default=0)
        if last >= total:
            raise DataError(
                f"the masks of target {number} reach behind the end of the clip",
                file=sample.source or None,
                record=sample.id,
                found=f"frame {last}",
                expected=f"at most {total - 1}",
                reason="frame_out_of_range",
            )
        if tuple(target.track.size) != (height, width):
            raise DataError(
                f"the masks of target {number} have another size than the clip",
                file=sample.source or None,
                record=sample.id,
                found=tuple(target.track.size),
                expected=(height, width),
                reason="size_mismatch",
            )


def _read_video(sample: Sample, frames: Union[FramePolicy, FramePlan], masks: bool) -> Clip:
    reader = open_video(sample.media.sources[0])
    try:
        if _last_frame(sample) >= len(reader):
            check_fits(sample, reader.size, len(reader))
        plan = _plan(sample, frames, len(reader), reader.fps)
        segments = segment_frames(sample, plan) if masks else ()
        wanted = sorted({*plan.rows, *segments})
        decoded = dict(zip(wanted, reader.frames(wanted))) if wanted else {}
        check_fits(sample, reader.size, len(reader))  # now the size is known without a decode more
        times = tuple(float(time) for time in reader.times(plan.rows)) if plan.rows else ()
        rows = tuple(decoded[frame] for frame in plan.rows)
        return Clip(plan, rows, times, {frame: decoded[frame] for frame in segments})
    finally:
        reader.close()


def _last_frame(sample: Sample) -> int:
    """The last frame that a region or mask lies on; -1 without any."""
    tracks = [target.track for target in sample.targets if target.track is not None]
    seen = (frame for track in tracks for frame, rle in track.rles.items() if rle)
    return max((*sample.pointed_frames, *seen), default=-1)


def _read_images(sample: Sample, frames: Union[FramePolicy, FramePlan]) -> Clip:
    images = []
    for path in sample.media.sources:
        reader = open_video(path)
        try:
            images.append(reader.frames([0])[0])
        finally:
            reader.close()
    plan = _plan(sample, frames, len(images), None)
    return Clip(plan, tuple(images[frame] for frame in plan.rows), (0.0,) * len(plan.rows), {})


def _plan(
    sample: Sample, frames: Union[FramePolicy, FramePlan], total: int, fps: Optional[float]
) -> FramePlan:
    if isinstance(frames, FramePolicy):
        return plan_sample(sample, frames, total, fps)
    if frames.total != total:
        raise DataError(
            "the frame plan belongs to another clip",
            record=sample.id,
            found=f"a plan of {frames.total} frames",
            expected=f"{total} frames",
        )
    return frames
