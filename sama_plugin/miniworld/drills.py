"""Drills: the two requests that a long lesson repeats most, as parts of their own, to be weighed.

Look-alikes told apart by what they do, and requests for what is not there. Each pulls against the
other (who finds boldly finds what is not there, who denies easily denies look-alikes), so they are
weighed together. Drawn apart from the rest of a clip's data, which they leave as it is.
"""

from __future__ import annotations

from typing import Iterator

import numpy as np

from sama_plugin.dialog.sample import Sample
from sama_plugin.miniworld import reference as ref
from sama_plugin.miniworld.expressions import Expression, motion_not_made, name_of_nothing
from sama_plugin.miniworld.scene import Scene


def look_alikes(scene: Scene, _: np.random.Generator) -> Iterator[Sample]:
    """All expressions of the clip that only a motion or a history tells from a look-alike."""
    clip = scene.clip
    turns = [
        scene.expression(Expression(f"the {thing.name()} that {words}", (index,), kind, True))
        for index, thing in enumerate(clip.things)
        for others in [ref.of_this_name(clip, index)]
        if others
        for kind, words in ref.distinguishing(clip, index, others)
    ]
    if turns:
        yield scene.sample("look_alikes", turns)


def absences(scene: Scene, _: np.random.Generator) -> Iterator[Sample]:
    """A thing of the clip with a motion that it does not make; a name that nothing has."""
    clip = scene.clip
    rng = np.random.default_rng([clip.seed, int(clip.nameless), 2])
    asked = [motion_not_made(clip, rng)]
    if not clip.nameless:
        asked.append(name_of_nothing(clip, rng))
    for number, expression in enumerate(asked):
        yield scene.sample(f"drill{number}", [scene.expression(expression)])
