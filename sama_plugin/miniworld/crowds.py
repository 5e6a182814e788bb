"""Crowded clips: eight things of any look on a loose grid, each jittering on a small circle.

They are no part of the world and nothing is ever said about them. The host's stage V looks at them
because a crowded frame costs a ViT as much as an ordinary one and shows two to three times as many
things. `RenderedCrowds` keeps them on disk beside the ordinary clips.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from sama_plugin.miniworld.render import render
from sama_plugin.miniworld.rendered import RenderedClips
from sama_plugin.miniworld.things import (
    COLOURS,
    SHAPES,
    SIZE,
    SIZES,
    TEXTURES,
    Backdrop,
    Clip,
    Thing,
)

THINGS = 8
GRID = 3
STREAM = 77
"""Part of the random seed, so that crowds share no draw with the world's clips."""


@cache
def sample_crowd(seed: int) -> Clip:
    """The crowd of `seed`, always the same one; things may cover each other a little."""
    rng = np.random.default_rng([STREAM, seed])
    places = rng.permutation(GRID * GRID)[:THINGS]
    things = tuple(_thing(rng, int(place), depth) for depth, place in enumerate(places, start=1))
    tones = rng.integers(45, 105, (2, 3))
    backdrop = Backdrop(
        tuple(tones[0].tolist()), tuple(tones[1].tolist()), float(rng.uniform(0, 6.28)), seed
    )
    return Clip(seed, "crowd", things, None, backdrop)


def _thing(rng: np.random.Generator, place: int, depth: int) -> Thing:
    size = str(rng.choice(list(SIZES), p=(0.25, 0.4, 0.35)))
    step = SIZE / GRID
    row, column = divmod(place, GRID)
    centre = np.array([column + 0.5, row + 0.5]) * step + rng.uniform(-7, 7, 2)
    return Thing(
        colour=str(rng.choice(list(COLOURS))),
        shape=str(rng.choice(SHAPES)),
        texture="plain" if size == "tiny" else str(rng.choice(TEXTURES)),
        size=size,
        radius=float(rng.uniform(*SIZES[size])),
        angle=float(rng.uniform(-0.25, 0.25)),
        motion="circles",
        origin=tuple(centre.tolist()),
        distance=float(rng.uniform(2, 7)),
        phase=float(rng.uniform(0, 6.28)),
        depth=depth,
    )


class RenderedCrowds(RenderedClips):
    """`count` rendered crowds below `folder`: arrays as in `RenderedClips`, `attributes` unused."""

    def __init__(self, folder: Path, count: int):
        super().__init__(folder, "crowd", count)

    def fill(self) -> RenderedCrowds:
        for index in range(self.ready, self.count):
            self.frames[index], self.visible[index] = render(sample_crowd(index))
            if index % 32 == 31 or index == self.count - 1:
                self._flush(index + 1)
        return self
