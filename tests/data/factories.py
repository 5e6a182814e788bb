"""Tiny clips on disk and samples about them, for the data tests."""

from __future__ import annotations

import numpy as np

from sama_plugin.dialog.sample import Media, Region, Sample, Target, Turn
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack

HEIGHT, WIDTH, FRAMES = 24, 32, 12


def square(frame: int, left: int = 2, side: int = 8) -> np.ndarray:
    """A square that moves one pixel to the right a frame; bool (HEIGHT, WIDTH)."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4 : 4 + side, left + frame : left + frame + side] = True
    return mask


def write_clip(path, frames: int = FRAMES) -> str:
    """A clip as an array file; the square is red on grey."""
    clip = np.full((frames, HEIGHT, WIDTH, 3), 90, np.uint8)
    for frame in range(frames):
        clip[frame][square(frame)] = (200, 30, 20)
    np.save(path, clip)
    return str(path)


def track(known=range(FRAMES), hidden=()) -> MaskTrack:
    """The square's masks on the known frames; on `hidden` ones it is known to be absent."""
    whole = MaskTrack.from_masks(np.stack([square(frame) for frame in range(FRAMES)]))
    rles = {frame: None if frame in hidden else whole.rles[frame] for frame in known}
    return MaskTrack(whole.size, FRAMES, rles)


def region(*frames: int) -> Region:
    """The square pointed at by its mask."""
    return Region(tuple(RegionPrompt.from_mask(frame, square(frame)) for frame in frames))


def grounded_sample(source: str, name: str = "grounded", **changes) -> Sample:
    """Two turns: one with a region and a target, one follow-up with two targets of which one is
    unknown.
    """
    turns = (
        Turn(
            "what does <region> do?",
            "<p> the red ball </p> [SEG] runs.",
            regions=(changes.pop("region", region(3)),),
            targets=(Target("the red ball", changes.pop("track", track(hidden=(10, 11)))),),
        ),
        Turn(
            "and the cup?",
            "<p> the cup </p> [SEG] stops behind <p> the ball </p> [SEG].",
            targets=(Target("the cup", None), Target("the ball", track())),
        ),
    )
    return Sample(name, Media("video", source), turns, **changes)


def plain_sample(source: str, name: str = "plain") -> Sample:
    """Plain chat about the clip; a typed mark stays text."""
    return Sample(
        name, Media("video", source), (Turn("what is [SEG]?", "a mark such as <p> or [SEG]."),)
    )


def text_sample(name: str = "text") -> Sample:
    """No media at all."""
    return Sample(
        name, Media("none"), (Turn("hello", "hi"), Turn("again", "yes")), system="be kind"
    )
