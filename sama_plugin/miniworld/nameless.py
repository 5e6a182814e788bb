"""The same clip with things that no word describes: lessons on what moves how, whatever it looks
like.

Training clips never show a reserved pair of look and motion, so a long lesson comes to know a
motion by the looks that had it: words name them, pixels show them. A nameless thing is a "thing",
in colours and shapes of no other clip; no word but what it does tells it apart. Training split
only. Used by `write` and the aggregator's pre-training.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sama_plugin.errors import SamaError
from sama_plugin.miniworld.things import COLOURS, NAMELESS_COLOURS, NAMELESS_SHAPES, SHAPES, Clip


def nameless(clip: Clip) -> Clip:
    """The clip repainted: things that looked alike still do, ways and events stay; the same for the
    same clip.

    Raises:
        SamaError: a clip that is not of the training split.
    """
    if clip.split != "train":
        raise SamaError(f"clip {clip.name}: only training clips lose their names")
    rng = np.random.default_rng([clip.seed, 9])
    paints = _drawn(rng, tuple(COLOURS), tuple(NAMELESS_COLOURS))
    shapes = _drawn(rng, SHAPES, NAMELESS_SHAPES)
    things = []
    for thing in clip.things:
        colour, after = paints[thing.colour], thing.colour_after
        if after is not None:
            others = [paint for paint in NAMELESS_COLOURS if paint != colour]
            after = paints[after] if paints[after] != colour else str(rng.choice(others))
        things.append(replace(thing, colour=colour, shape=shapes[thing.shape], colour_after=after))
    return replace(clip, things=tuple(things))


def _drawn(rng: np.random.Generator, old: tuple[str, ...], new: tuple[str, ...]) -> dict[str, str]:
    """A new look for each old one."""
    return {look: str(rng.choice(new)) for look in old}
