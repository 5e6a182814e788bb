"""Outlines and textures of the mini world as functions of a point, so that they can be drawn
anywhere, smoothly.

Signed distances (negative inside) give anti-aliased edges at sub-pixel positions, and the same
function answers how much of one thing another covers. All coordinates are the thing's own: origin
at its centre, y down, tilted with it. Used by `world` (coverage while sampling) and `render`.
"""

from __future__ import annotations

import numpy as np

from sama_plugin.miniworld.things import FRAMES, SIZE, Thing


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to the outline of `shape` at (x, y), all in units of its radius; negative inside."""
    if shape == "circle":
        return np.hypot(x, y) - 0.96
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.84
    if shape == "triangle":
        return np.maximum(y - 0.58, 0.866 * np.abs(x) - 0.5 * y - 0.58)
    if shape == "ring":
        return np.abs(np.hypot(x, y) - 0.73) - 0.27
    if shape == "cross":
        x, y = np.abs(x), np.abs(y)
        return np.minimum(np.maximum(x - 1.0, y - 0.34), np.maximum(x - 0.34, y - 1.0))
    if shape == "bar":
        return np.maximum(np.abs(x) - 1.0, np.abs(y) - 0.45)
    if shape == "moon":
        return np.maximum(np.hypot(x, y) - 1.0, 0.72 - np.hypot(x - 0.6, y))
    if shape == "hourglass":
        x, y = np.abs(x), np.abs(y)
        return np.maximum(y - 0.8, (x - 0.2 - 0.8 * y) / 1.28)
    return _star_distance(x, y)


def _star_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points: the plane is folded into half a point, which is bounded by one line from tip to
    notch.
    """
    tip, notch = 1.18, 0.5
    sector = 2 * np.pi / 5
    around = np.arctan2(x, -y)
    folded = np.abs(around - sector * np.round(around / sector))
    reach = np.hypot(x, y)
    along, across = reach * np.cos(folded), reach * np.sin(folded)
    edge_x = notch * np.cos(sector / 2) - tip
    edge_y = notch * np.sin(sector / 2)
    return ((along - tip) * edge_y - across * edge_x) / np.hypot(edge_x, edge_y)


def coverage(thing: Thing, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """How much of the pixel at offset (dx, dy) from the centre the thing fills: float in 0..1,
    edges one pixel wide.
    """
    x, y = own_coordinates(thing, dx, dy)
    distance = signed_distance(thing.shape, x / thing.radius, y / thing.radius)
    return np.clip(0.5 - distance * thing.radius, 0.0, 1.0)


def shade(thing: Thing, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Where the texture darkens the thing: float in 0..1 (0: its plain colour), moving with it."""
    if thing.texture == "plain":
        return np.zeros_like(dx)
    x, y = own_coordinates(thing, dx, dy)
    if thing.texture == "striped":
        period = max(6.0, 0.55 * thing.radius)
        wave = np.sin(2 * np.pi * (x + y) / (1.414 * period))
        return np.clip(0.5 + wave * period / 4, 0.0, 1.0)
    period = max(6.5, 0.55 * thing.radius)
    away = np.hypot(
        x - period * np.round(x / period),
        y - period * np.round(y / period),
    )
    return np.clip(0.5 + 0.29 * period - away, 0.0, 1.0)


def own_coordinates(thing: Thing, dx: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets in pixels turned into the thing's tilted axes."""
    cosine, sine = np.cos(thing.angle), np.sin(thing.angle)
    return cosine * dx + sine * dy, cosine * dy - sine * dx


def silhouettes(thing: Thing, centres: np.ndarray) -> np.ndarray:
    """Filled pixels of a thing as if it were alone: (T, 128, 128) bool."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5
    filled = np.zeros((FRAMES, SIZE, SIZE), dtype=bool)
    for frame, (centre_x, centre_y) in enumerate(centres):
        filled[frame] = coverage(thing, x - centre_x, y - centre_y) > 0.5
    return filled
