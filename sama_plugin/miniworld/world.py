"""Sampling of clips: which things there are, what they look like, what happens to them.

`sample_clip(seed, split)` is a pure function. It decides how many things and events there are and
whether two look alike, then drafts a cast (motions and histories first, then looks, so that
look-alikes differ in what they do) and places it (`placing`) until one fits, so that crowded clips
are not rarer than drawn. Train clips never hold a reserved combination of colour or shape with a
motion; every held-out clip holds at least one, so a held-out score is about things never seen doing
that. Used by the generators of training data and by `cases`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

import numpy as np

from sama_plugin.errors import SamaError
from sama_plugin.miniworld.placing import place_cast
from sama_plugin.miniworld.reserved import is_reserved
from sama_plugin.miniworld.things import (
    BEHIND,
    CHANGES,
    COLOURS,
    FPS,
    FRAMES,
    HIDES,
    IN_FRONT,
    LEAVES,
    MOTIONS,
    MOVES,
    SHAPES,
    SIZE,
    SIZES,
    TEXTURES,
    Backdrop,
    Clip,
    Thing,
)

__all__ = [
    "FPS",
    "FRAMES",
    "SIZE",
    "SPLITS",
    "Clip",
    "Thing",
    "sample_clip",
]

SPLITS = ("train", "heldout")
TRIES = 2000

COUNT_ODDS = {2: 0.22, 3: 0.34, 4: 0.28, 5: 0.16}
EVENT_ODDS = {0: 0.25, 1: 0.45, 2: 0.30}
EVENTS = {HIDES: 0.24, LEAVES: 0.22, CHANGES: 0.22, BEHIND: 0.16, IN_FRONT: 0.16}
MOTION_ODDS = dict(zip(MOTIONS, (0.12, 0.12, 0.12, 0.12, 0.14, 0.18, 0.20)))
SIZE_ODDS = {"tiny": 0.22, "small": 0.43, "large": 0.35}
LOOK_ALIKE_ODDS = 0.45


def sample_clip(seed: int, split: str) -> Clip:
    """The clip of (seed, split): 2 to 5 things, always the same one.

    Raises:
        SamaError: unknown split, or a negative seed.
    """
    if split not in SPLITS or seed < 0:
        raise SamaError(
            f"no mini-world clip for seed {seed!r}, split {split!r}: "
            f"the splits are {SPLITS} and seeds count from 0"
        )
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    count = _draw(rng, COUNT_ODDS)
    kinds = rng.choice(list(EVENTS), _draw(rng, EVENT_ODDS), replace=False, p=list(EVENTS.values()))
    events = [str(kind) for kind in kinds]
    alike = bool(rng.random() < LOOK_ALIKE_ODDS)
    for _ in range(TRIES):
        cast = _draft(rng, count, events, alike)
        if cast is None or any(map(is_reserved, cast)) != (split == "heldout"):
            continue
        placed = place_cast(cast, rng)
        if placed is not None:
            things, wall = placed
            return Clip(seed, split, things, wall, _backdrop(rng))
    raise AssertionError(f"no clip in {TRIES} tries for seed {seed}, split {split}")


def _draft(
    rng: np.random.Generator, count: int, events: list[str], alike: bool
) -> Optional[tuple[Thing, ...]]:
    """A cast without places, or None when its things cannot be told apart as they should be."""
    things = [
        Thing("", "", "plain", _draw(rng, SIZE_ODDS), 0.0, 0.0, _draw(rng, MOTION_ODDS), (0, 0))
        for _ in range(count)
    ]
    _draft_events(things, events, rng)
    pair = _draft_look_alikes(things, rng) if alike else None
    if alike and pair is None:
        return None
    _draft_looks(things, pair, rng)
    things = [_draft_shape(thing, rng) for thing in things]
    return tuple(things) if _distinct(things, pair) else None


def _draft_events(things: list[Thing], events: list[str], rng: np.random.Generator) -> None:
    """Give each event to a thing of its own while there are things; a crossing takes two."""
    free = [int(i) for i in rng.permutation(len(things))]
    for kind in events:
        if len(free) < (2 if kind in (BEHIND, IN_FRONT) else 1):
            return
        index = free.pop()
        thing = replace(things[index], history=kind)
        if kind == LEAVES:
            thing = replace(thing, motion=LEAVES)
        elif kind != CHANGES:
            thing = replace(thing, motion=str(rng.choice(MOVES)))
        if kind == HIDES:
            thing = replace(thing, size=str(rng.choice(["tiny", "small"])), depth=-1)
        if kind in (BEHIND, IN_FRONT):
            other = free.pop()
            thing = replace(thing, other=other, size=str(rng.choice(["small", "large"])))
            crossed = "stays still" if rng.random() < 0.6 else _across(thing.motion, rng)
            things[other] = replace(things[other], motion=crossed, size="large")
        things[index] = thing


def _across(motion: str, rng: np.random.Generator) -> str:
    """A motion along the other axis."""
    return str(rng.choice(MOVES[2:] if motion in MOVES[:2] else MOVES[:2]))


def _draft_look_alikes(things: list[Thing], rng: np.random.Generator) -> Optional[tuple[int, int]]:
    """Choose the pair that will look alike and make sure that its motions or histories differ."""
    taken = {thing.other for thing in things if thing.other is not None}
    first, second = (int(i) for i in rng.permutation(len(things))[:2])
    one, two = things[first], things[second]
    if one.history is None and two.history is not None:
        first, second, one, two = second, first, two, one
    if one.history and not two.history and one.motion in MOVES and second not in taken:
        two = replace(two, motion=one.motion)
    elif one.motion == two.motion and one.history == two.history:
        if second in taken:
            return None
        others = [motion for motion in MOTIONS[:7] if motion != one.motion]
        two = replace(two, motion=str(rng.choice(others)))
    if two.history is None and second not in taken:
        two = replace(two, size=one.size)
    things[second] = two
    return first, second


def _draft_looks(
    things: list[Thing], pair: Optional[tuple[int, int]], rng: np.random.Generator
) -> None:
    """Draw colours and shapes, often those of an earlier thing so that "the red things" exist."""
    colours: list[str] = []
    for index, thing in enumerate(things):
        if pair is not None and index == max(pair):
            twin = things[min(pair)]
            thing = replace(thing, colour=twin.colour, shape=twin.shape, texture=twin.texture)
        else:
            shared = colours and rng.random() < 0.3
            colour = str(rng.choice(colours if shared else list(COLOURS)))
            shared = index > 0 and rng.random() < 0.25
            shape = things[int(rng.integers(index))].shape if shared else str(rng.choice(SHAPES))
            texture = str(rng.choice(TEXTURES, p=(0.4, 0.3, 0.3)))
            thing = replace(thing, colour=colour, shape=shape, texture=texture)
        if thing.history == CHANGES:
            others = [colour for colour in COLOURS if colour != thing.colour]
            thing = replace(thing, colour_after=str(rng.choice(others)))
        colours.append(thing.colour)
        things[index] = thing
    if any(things[index].size == "tiny" for index in pair or ()):
        for index in pair:
            things[index] = replace(things[index], texture="plain")


def _draft_shape(thing: Thing, rng: np.random.Generator) -> Thing:
    """Radius and tilt; a tiny thing is plain."""
    return replace(
        thing,
        radius=round(float(rng.uniform(*SIZES[thing.size])), 2),
        angle=round(float(rng.uniform(-0.25, 0.25)), 3),
        texture="plain" if thing.size == "tiny" else thing.texture,
    )


def _distinct(things: list[Thing], pair: Optional[tuple[int, int]]) -> bool:
    """Whether only the look-alike pair shares a colour (at any time) together with a shape."""
    for first in range(len(things)):
        for second in range(first + 1, len(things)):
            one, two = things[first], things[second]
            same = one.shape == two.shape and set(one.colours) & set(two.colours)
            if same and {first, second} != set(pair or ()):
                return False
    return True


def _draw(rng: np.random.Generator, odds: dict):
    """A key of `odds`, drawn with its probability."""
    keys = list(odds)
    return keys[int(rng.choice(len(keys), p=list(odds.values())))]


def _backdrop(rng: np.random.Generator) -> Backdrop:
    """Two muted dark colours; never near a thing's colour."""
    base = rng.uniform(58, 92)
    first, second = (
        tuple(int(v) for v in np.clip(base + shift + rng.uniform(-14, 14, 3), 40, 110))
        for shift in (-12, 12)
    )
    return Backdrop(
        first, second, round(float(rng.uniform(0, 2 * np.pi)), 3), int(rng.integers(2**31))
    )
