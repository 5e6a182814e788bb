"""Where a drafted cast can stand and go without getting in each other's way.

Things with a history are placed first (a hider with its wall, a crossing pair together), then the
others one by one where they stay inside the frame and clear of every other thing at every frame.
Every search is bounded; a cast that does not fit is given back as None. Used by `world`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

import numpy as np

from sama_plugin.miniworld.motion import AWAY, trajectory
from sama_plugin.miniworld.shapes import coverage
from sama_plugin.miniworld.things import (
    BEHIND,
    FRAMES,
    HEADINGS,
    HIDES,
    IN_FRONT,
    LEAVES,
    MOVES,
    SIZE,
    Thing,
    Wall,
)

TRIES = 30
CLEARANCE = 0.92
"""Least distance between centres, relative to the sum of the radii: below 25 % of a thing is ever
covered by chance.
"""
CROSSING_COVERED = 0.25
"""Least share of the farther thing that a crossing covers, at one frame of `AWAY` and the one after
or before it.
"""


def place_cast(
    cast: tuple[Thing, ...], rng: np.random.Generator
) -> Optional[tuple[tuple[Thing, ...], Optional[Wall]]]:
    """The cast with places and depths, its wall if something hides; None when it does not fit."""
    things, ways = list(cast), {}
    wall = None
    for index, thing in enumerate(cast):
        if thing.history == HIDES:
            things[index], wall = _place_hider(thing, rng)
            ways[index] = trajectory(things[index])
    for index, thing in enumerate(cast):
        if thing.history in (BEHIND, IN_FRONT):
            found = _place_crossing(things, index, ways, rng)
            if found is None:
                return None
            things[index], things[thing.other] = found
            ways.update({i: trajectory(things[i]) for i in (index, thing.other)})
    for index in range(len(cast)):
        if index not in ways:
            found = _place_clear(things, index, ways, rng)
            if found is None:
                return None
            things[index], ways[index] = found, trajectory(found)
    if wall is None and rng.random() < 0.12:
        wall = _decoy_wall(rng)
    return tuple(_round(thing) for thing in things), wall


def _place_clear(
    things: list[Thing], index: int, ways: dict[int, np.ndarray], rng: np.random.Generator
) -> Optional[Thing]:
    for _ in range(TRIES):
        thing = replace(_with_way(things[index], rng), depth=index + 1)
        if _clear(thing, trajectory(thing), things, ways):
            return thing
    return None


def _clear(thing: Thing, way: np.ndarray, things: list[Thing], ways: dict[int, np.ndarray]) -> bool:
    """Whether the thing stays away from every placed one at every frame."""
    return all(
        np.hypot(*(way - other).T).min() > CLEARANCE * (thing.radius + things[i].radius)
        for i, other in ways.items()
    )


def _with_way(thing: Thing, rng: np.random.Generator) -> Thing:
    """The thing with a random way of its motion that stays inside the frame (of a leaver: begins
    and ends inside).
    """
    margin = thing.extent + 1
    if thing.motion == "stays still":
        return replace(thing, origin=_point(rng, margin, margin))
    if thing.motion == "circles":
        radius = float(rng.uniform(17, 24))
        return replace(
            thing,
            origin=_point(rng, margin + radius, margin + radius),
            distance=radius,
            phase=round(float(rng.uniform(0, 2 * np.pi)), 3),
            spin=int(rng.choice([-1, 1])),
        )
    if thing.motion in MOVES:
        heading = thing.motion.split()[1]
        distance = float(rng.uniform(46, min(80, SIZE - 2 * margin)))
    else:
        heading = str(rng.choice(list(HEADINGS)))
        distance = float(rng.uniform(34, 56))
    if thing.motion == LEAVES:
        inside = margin + float(rng.uniform(3, 16))
        along = SIZE - inside
        distance = inside + thing.extent + 2
    else:
        along = float(rng.uniform(margin, SIZE - margin - distance))
    return replace(
        thing, heading=heading, distance=distance, origin=_start(heading, along, margin, rng)
    )


def _start(
    heading: str, along: float, margin: float, rng: np.random.Generator
) -> tuple[float, float]:
    """A start `along` pixels from the edge the thing comes from, anywhere across."""
    across = float(rng.uniform(margin, SIZE - margin))
    along = along if heading in ("right", "down") else SIZE - along
    return (along, across) if heading in ("left", "right") else (across, along)


def _point(rng: np.random.Generator, *margins: float) -> tuple[float, float]:
    x, y = (float(rng.uniform(margin, SIZE - margin)) for margin in margins)
    return x, y


def _place_hider(thing: Thing, rng: np.random.Generator) -> tuple[Thing, Wall]:
    """A way through the middle of a wall that is long enough to hide the thing during `AWAY`."""
    heading, extent = thing.motion.split()[1], thing.extent
    distance = 6 * extent + float(rng.uniform(12, 18))
    length = 2 * extent + distance / 3 + 3
    along = float(rng.uniform(extent + 1, SIZE - extent - 1 - distance))
    thing = replace(
        thing, heading=heading, distance=distance, origin=_start(heading, along, extent + 4, rng)
    )
    middle = np.asarray(thing.origin) + np.asarray(HEADINGS[heading]) * distance / 2
    across = extent + float(rng.uniform(4, 14))
    half = (length / 2, across) if heading in ("left", "right") else (across, length / 2)
    low = np.clip(np.floor(middle - half), 0, SIZE).astype(int)
    high = np.clip(np.ceil(middle + half), 0, SIZE).astype(int)
    return thing, Wall(int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def _decoy_wall(rng: np.random.Generator) -> Wall:
    """A wall that nothing hides behind: everything passes in front of it."""
    width, height = (int(v) for v in rng.integers(30, 52, 2))
    x, y = int(rng.integers(4, SIZE - width - 4)), int(rng.integers(4, SIZE - height - 4))
    return Wall(x, y, x + width, y + height)


def _place_crossing(
    things: list[Thing], index: int, ways: dict[int, np.ndarray], rng: np.random.Generator
) -> Optional[tuple[Thing, Thing]]:
    """Ways of a mover and its partner that meet at one point about the middle of the clip, with
    their depths.
    """
    mover, partner = things[index], things[things[index].other]
    nearer = 2 * len(things)
    mover = replace(mover, depth=nearer + (mover.history == IN_FRONT))
    partner = replace(partner, depth=nearer + (mover.history == BEHIND))
    for _ in range(2 * TRIES):
        met = float(rng.choice([1 / 3, 5 / 12, 1 / 2, 7 / 12, 2 / 3]))
        point = np.asarray(_point(rng, 30, 30))
        aside = rng.uniform(-0.3, 0.3, 2) * (mover.radius + partner.radius)
        first = _through(mover, point, met, rng)
        second = _through(partner, point + aside, met, rng)
        if first is None or second is None:
            continue
        way, other = trajectory(first), trajectory(second)
        if not (_clear(first, way, things, ways) and _clear(second, other, things, ways)):
            continue
        if _crosses(first, way, second, other):
            return first, second
    return None


def _through(
    thing: Thing, point: np.ndarray, met: float, rng: np.random.Generator
) -> Optional[Thing]:
    """The thing on a way that is at `point` when the part `met` is done; None when that leaves the
    frame.
    """
    if thing.motion == "stays still":
        thing = replace(thing, origin=(float(point[0]), float(point[1])))
    else:
        heading = thing.motion.split()[1]
        distance = float(rng.uniform(50, 78))
        start = point - met * distance * np.asarray(HEADINGS[heading])
        origin = (float(start[0]), float(start[1]))
        thing = replace(thing, heading=heading, distance=distance, origin=origin)
    way, margin = trajectory(thing), thing.extent + 1
    inside = way.min() >= margin and way.max() <= SIZE - margin
    return thing if inside else None


def _crosses(first: Thing, way: np.ndarray, second: Thing, other: np.ndarray) -> bool:
    """Whether the nearer thing covers enough of the farther one to see it, and is clear of it at
    both ends.
    """
    apart = np.hypot(*(way - other).T)  # (T,)
    if min(apart[0], apart[-1]) < CLEARANCE * (first.radius + second.radius):
        return False
    near, far = (first, second) if first.depth > second.depth else (second, first)
    offset = (way - other) if far is first else (other - way)  # (T, 2) from near to far
    half = np.arange(-np.ceil(far.extent), np.ceil(far.extent) + 1)
    dx, dy = np.meshgrid(half, half)
    filled = coverage(far, dx, dy) > 0.5
    covered = np.zeros(FRAMES)
    for frame in np.flatnonzero(apart < first.extent + second.extent):
        x, y = offset[frame]
        both = filled & (coverage(near, dx + x, dy + y) > 0.5)
        covered[frame] = both.sum() / filled.sum()
    return bool(
        max(covered[list(AWAY)]) > CROSSING_COVERED and (covered > CROSSING_COVERED).sum() > 1
    )


def _round(thing: Thing) -> Thing:
    """Coordinates to hundredths of a pixel, so that clips stay short as JSON."""
    x, y = thing.origin
    return replace(thing, origin=(round(x, 2), round(y, 2)), distance=round(thing.distance, 2))
