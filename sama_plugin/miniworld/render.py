"""Clips to pixels: RGB frames and, for every pixel, which thing is seen there.

Each thing is drawn over all frames at once inside its own bounding box, far to near, so a clip
takes a few milliseconds. A pixel belongs to a thing when the thing fills more than half of it. Used
by everything that needs pictures.
"""

from __future__ import annotations

import numpy as np

from sama_plugin.miniworld.motion import colour_progress, trajectory
from sama_plugin.miniworld.shapes import coverage, shade
from sama_plugin.miniworld.things import (
    COLOURS,
    FRAMES,
    NAMELESS_COLOURS,
    SIZE,
    Backdrop,
    Clip,
    Thing,
    Wall,
)

PAINTS = {
    name: np.asarray(paint, np.float32) for name, paint in {**COLOURS, **NAMELESS_COLOURS}.items()
}

TEXTURE_DARK = 0.5
"""Brightness of stripes and dots relative to the colour; darker ones break small shapes up."""
SENSOR_NOISE = 2.5
"""Standard deviation of the per-pixel noise, in grey levels."""


def render(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, 128, 128, 3) uint8 and the visible map (T, 128, 128) uint8.

    The map holds index + 1 of the thing seen at a pixel, and 0 on backdrop and wall.
    """
    rng = np.random.default_rng(clip.backdrop.seed)
    canvas = np.repeat(_backdrop(clip.backdrop, rng)[None], FRAMES, axis=0)  # (T, H, W, 3)
    visible = np.zeros((FRAMES, SIZE, SIZE), dtype=np.uint8)
    order = sorted(range(len(clip.things)), key=lambda index: clip.things[index].depth)
    behind_wall = [index for index in order if clip.things[index].depth < 0]
    for index in behind_wall:
        _draw_thing(canvas, visible, clip.things[index], index + 1)
    if clip.wall is not None:
        _draw_wall(canvas, visible, clip.wall)
    for index in order[len(behind_wall) :]:
        _draw_thing(canvas, visible, clip.things[index], index + 1)
    _add_noise(canvas, rng)
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8), visible


def _backdrop(backdrop: Backdrop, rng: np.random.Generator) -> np.ndarray:
    """Gradient plus smooth noise of a few grey levels: (H, W, 3) float32."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE - 0.5
    along = x * np.cos(backdrop.angle) + y * np.sin(backdrop.angle)
    mix = np.clip(along + 0.5, 0, 1)[..., None]  # (H, W, 1)
    first, second = (np.asarray(c, dtype=np.float32) for c in (backdrop.first, backdrop.second))
    return first * (1 - mix) + second * mix + _smooth_noise(rng)[..., None]


def _smooth_noise(rng: np.random.Generator, cells: int = 8, amplitude: float = 7.0) -> np.ndarray:
    """Random values on a coarse grid, bilinearly enlarged: (H, W) float32."""
    coarse = rng.uniform(-amplitude, amplitude, (cells + 1, cells + 1)).astype(np.float32)
    at = np.arange(SIZE) * cells / SIZE
    low = at.astype(int)
    part = (at - low).astype(np.float32)
    rows = coarse[low] * (1 - part)[:, None] + coarse[low + 1] * part[:, None]  # (H, cells + 1)
    return rows[:, low] * (1 - part) + rows[:, low + 1] * part


def _draw_thing(canvas: np.ndarray, visible: np.ndarray, thing: Thing, label: int) -> None:
    centres = trajectory(thing)  # (T, 2)
    half = int(np.ceil(thing.extent)) + 1
    corners = np.floor(centres).astype(int) - half  # (T, 2) x, y of the patch's first pixel
    offset = np.arange(2 * half + 1) + 0.5
    dx = (corners[:, :1] + offset - centres[:, :1]).astype(np.float32)  # (T, P)
    dy = (corners[:, 1:] + offset - centres[:, 1:]).astype(np.float32)
    dx, dy = np.broadcast_arrays(dx[:, None, :], dy[:, :, None])  # (T, P, P)
    alpha = coverage(thing, dx, dy)
    paint = _paint(thing, shade(thing, dx, dy))  # (T, P, P, 3)
    for frame in range(FRAMES):
        x, y = corners[frame]
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + len(offset), SIZE), min(y + len(offset), SIZE)
        if x0 >= x1 or y0 >= y1:
            continue
        patch = (frame, slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
        target = (frame, slice(y0, y1), slice(x0, x1))
        a = alpha[patch][..., None]
        canvas[target] += a * (paint[patch] - canvas[target])
        visible[target][alpha[patch] > 0.5] = label


def _paint(thing: Thing, dark: np.ndarray) -> np.ndarray:
    """Colour of each pixel, change of colour and texture included: (T, P, P, 3) float32."""
    colour = np.repeat(PAINTS[thing.colour][None], FRAMES, axis=0)  # (T, 3)
    if thing.colour_after is not None:
        done = colour_progress().astype(np.float32)[:, None]
        colour = colour * (1 - done) + done * PAINTS[thing.colour_after]
    brightness = 1 - (1 - TEXTURE_DARK) * dark.astype(np.float32)
    return colour[:, None, None, :] * brightness[..., None]


def _draw_wall(canvas: np.ndarray, visible: np.ndarray, wall: Wall) -> None:
    """Light grey bricks, six pixels high, every second course shifted."""
    y, x = np.mgrid[wall.y0 : wall.y1, wall.x0 : wall.x1]
    course = (y - wall.y0) // 6
    joint = ((y - wall.y0) % 6 == 5) | ((x - wall.x0 + 6 * (course % 2)) % 12 == 11)
    edge = (y == wall.y0) | (y == wall.y1 - 1) | (x == wall.x0) | (x == wall.x1 - 1)
    grey = np.where(joint | edge, 112.0, 168.0)
    canvas[:, wall.y0 : wall.y1, wall.x0 : wall.x1] = grey[..., None]
    visible[:, wall.y0 : wall.y1, wall.x0 : wall.x1] = 0


def _add_noise(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Sensor noise: one drawn field, shifted anew each frame, which costs a tenth of drawing every
    frame.
    """
    field = rng.normal(0, SENSOR_NOISE, (SIZE, SIZE, 3)).astype(np.float32)
    for frame, (down, right) in enumerate(rng.integers(0, SIZE, (FRAMES, 2))):
        canvas[frame] += np.roll(field, (down, right), axis=(0, 1))
