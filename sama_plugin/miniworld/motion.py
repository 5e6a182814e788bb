"""Where things are at each frame.

Every motion begins after frame 2 and is over by frame 14: four uniformly spaced frames of sixteen
(2, 6, 10, 14) then show where a thing starts, where it ends and two moments between, so a model
that reads four frames can tell all motions. Used by `world` (placement), `render` and the
languages.
"""

from __future__ import annotations

import numpy as np

from sama_plugin.miniworld.things import FRAMES, HEADINGS, LEAVES, SIZE, Clip, Thing

FIRST, LAST = 2, 14
"""Frames at which all motion begins and ends."""
AWAY = (6, 10)
"""First and last frame at which what hides is hidden and what leaves is outside."""
GRID = 16
"""Places are said on a 16 by 16 grid."""


def progress() -> np.ndarray:
    """Part of the way done at each frame: (T,) float, 0 until `FIRST` and 1 from `LAST`."""
    return np.clip((np.arange(FRAMES) - FIRST) / (LAST - FIRST), 0.0, 1.0)


def colour_progress() -> np.ndarray:
    """Part of a change of colour done at each frame: (T,) float, 0 until frame 6 and 1 from frame
    9.
    """
    return np.clip((np.arange(FRAMES) - 6) / 3, 0.0, 1.0)


def trajectory(thing: Thing) -> np.ndarray:
    """Centres of one thing: (T, 2) float pixels, x right and y down; may lie outside the frame."""
    done = progress()
    origin = np.asarray(thing.origin)
    if thing.motion == "circles":
        turn = thing.phase + thing.spin * 2 * np.pi * done
        return origin + thing.distance * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if thing.motion == "turns around":
        done = 1 - np.abs(2 * done - 1)
    elif thing.motion == LEAVES:
        frame = np.arange(FRAMES)
        out = np.minimum((frame - FIRST) / (AWAY[0] - FIRST), (LAST - frame) / (LAST - AWAY[1]))
        done = np.clip(out, 0.0, 1.0)
    elif thing.motion == "stays still":
        done = np.zeros(FRAMES)
    heading = np.asarray(HEADINGS[thing.heading or "left"])
    return origin + done[:, None] * thing.distance * heading


def trajectories(clip: Clip) -> np.ndarray:
    """Centres of all things of a clip: (T, N, 2) float pixels."""
    return np.stack([trajectory(thing) for thing in clip.things], axis=1)


def place(centre: np.ndarray) -> tuple[int, int]:
    """Grid place (x, y) of a centre in pixels; each in 0..15."""
    x, y = np.clip(np.floor(np.asarray(centre) * GRID / SIZE), 0, GRID - 1)
    return int(x), int(y)
