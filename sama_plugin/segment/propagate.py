"""From prompted frames to masks of the whole video.

First every prompted frame of every object is decoded without memory; then each object is followed
forward from its first prompted frame and backward from the same one, as SAM2's stock predictor does
(and with its quirk that the backward pass also recalls the forward one's first frames). Results are
yielded frame by frame, nothing older than the recall window is kept. Used by sessions, evaluation
and the mini world.
"""

from __future__ import annotations

from typing import Iterator, Optional, Sequence

import torch
from torch import nn

from sama_plugin.errors import RegionError
from sama_plugin.segment.base import Segmenter
from sama_plugin.segment.following import (
    DEFAULT,
    Following,
    FrameResult,
    ObjectPrompt,
    Track,
    TrackOptions,
    check_count,
    collect,
)
from sama_plugin.segment.store import FeatureStore

AHEAD = 16
"""Frames that the backward pass has encoded at once: going back a frame costs a video file up to a
group of pictures."""


@torch.no_grad()
def propagate(
    segmenter: Segmenter,
    store: FeatureStore,
    objects: Sequence[ObjectPrompt],
    total: int,
    *,
    options: TrackOptions = DEFAULT,
    mask_decoder: Optional[nn.Module] = None,
) -> Iterator[FrameResult]:
    """Follow `objects` through `total` frames; every (object, frame) that is reached comes exactly
    once.

    Forward frames ascend, then backward frames descend. An object whose prompted frames are all
    empty is empty on all frames it would have reached. `mask_decoder` decodes prompted frames in
    place of the segmenter's own.

    Raises:
        RegionError: an object without prompted frames, a prompted frame outside the video, or more
            objects than `options.most`.
    """
    check_objects(objects, total, options)
    tracks = [Track(span=item.span) for item in objects]
    if not tracks:
        return
    following = Following(segmenter, store, total, options, mask_decoder)
    following.begin(objects, tracks)
    for direction in options.directions:
        yield from _pass(following, store, tracks, 1 if direction == "forward" else -1)


def _pass(
    following: Following, store: FeatureStore, tracks: list[Track], step: int
) -> Iterator[FrameResult]:
    """One direction. The frame an object starts from belongs to the first direction."""
    opening = following.options.directions[0] == ("forward" if step > 0 else "backward")
    starts = [track.start for track in tracks]
    order = range(min(starts), following.total) if step > 0 else range(max(starts), -1, -1)
    for frame in order:
        active = _active(tracks, starts, frame, step, opening)
        if not active:
            continue
        if step < 0 and frame not in store:
            before = range(max(0, frame - AHEAD + 1), frame + 1)
            store.read_ahead([one for one in before if _looks(tracks, starts, one, opening)])
        following.visit([tracks[index] for index in active], frame, step)
        yield collect(tracks, active, frame)
        for index in active:
            tracks[index].forget(frame, following.segmenter)


def _active(
    tracks: list[Track], starts: list[int], frame: int, step: int, opening: bool
) -> list[int]:
    """Places of the tracks that a pass in this direction reaches on `frame`."""
    return [
        index
        for index, start in enumerate(starts)
        if ((frame - start) * step > 0 or (opening and frame == start))
        and tracks[index].reaches(frame)
    ]


def _looks(tracks: list[Track], starts: list[int], frame: int, opening: bool) -> bool:
    """Whether the backward pass will ask for the features of `frame`."""
    return any(tracks[i].conditioning for i in _active(tracks, starts, frame, -1, opening))


def check_objects(objects: Sequence[ObjectPrompt], total: int, options: TrackOptions) -> None:
    """Refuse too many objects, and those that are prompted on no frame of the video."""
    check_count(len(objects), options)
    for index, item in enumerate(objects):
        outside = [frame for frame in item.frames if not 0 <= frame < total]
        if not item.frames or outside:
            found = f"prompted on frame(s) {outside}" if outside else "not prompted on any frame"
            raise RegionError(f"object {index} is {found}; the video has frames 0 to {total - 1}")
