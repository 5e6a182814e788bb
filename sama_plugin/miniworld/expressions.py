"""Referring expressions: noun phrases with the things they mean.

What identifies is part of the expression: attributes ("plain"), the motion alone ("motion"), the
history alone ("history"); "several" mean two or more things, "absent" none. Among look-alikes only
a motion or a history can tell. Used for grounding data and by `cases`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sama_plugin.miniworld import reference as ref
from sama_plugin.miniworld.reserved import reserved_motions
from sama_plugin.miniworld.things import COLOURS, MOTIONS, SHAPES, Clip

KINDS = ("plain", "motion", "history", "several", "absent")
ABSENT_SHARE = 0.1


@dataclass(frozen=True)
class Expression:
    """`text` means exactly `things` (indices, ascending); none for kind "absent".

    `look_alike`: another thing has the same colour and shape, or none has a name, so the kind is
    all that tells.
    """

    text: str
    things: tuple[int, ...]
    kind: str
    look_alike: bool = False


def expressions(clip: Clip, rng: np.random.Generator) -> list[Expression]:
    """Expressions of a clip in random order: one or two a thing, one or two groups, and an absent
    one so often that it is one in ten overall.
    """
    found: list[Expression] = []
    for index in range(len(clip.things)):
        found += _of_thing(clip, index, rng)
    found += _several(clip, rng)
    if rng.random() < len(found) * ABSENT_SHARE / (1 - ABSENT_SHARE):
        found.append(_absent(clip, rng))
    return [found[int(i)] for i in rng.permutation(len(found))]


def _of_thing(clip: Clip, index: int, rng: np.random.Generator) -> list[Expression]:
    thing = clip.things[index]
    others = [other for other in range(len(clip.things)) if other != index]
    found = []
    if ref.is_unique(clip, index):
        names = _plain_names(clip, index)
        found.append(Expression(_draw(rng, names), (index,), "plain"))
    else:
        for kind, words in ref.distinguishing(clip, index, ref.of_this_name(clip, index)):
            found.append(Expression(f"the {thing.name()} that {words}", (index,), kind, True))
    telling = ref.distinguishing(clip, index, others)
    if telling and not thing.nameless and rng.random() < 0.35:
        kind, words = telling[int(rng.integers(len(telling)))]
        found.append(Expression(f"the thing that {words}", (index,), kind))
    return found


def _plain_names(clip: Clip, index: int) -> list[str]:
    """Phrases of attributes that fit this thing only; the name twice, as it is the usual one."""
    thing = clip.things[index]
    names = [f"the {thing.name()}", f"the {thing.name()}", f"the {thing.name(1)}"]
    if not set(thing.colours) & ref.changing_colours(clip):
        if ref.fitting(clip, thing.colour) == [index]:
            names.append(f"the {thing.colour} thing")
        if ref.fitting(clip, thing.colour, texture=thing.texture) == [index]:
            names.append(f"the {thing.texture} {thing.colour} thing")
    if ref.fitting(clip, shape=thing.shape) == [index]:
        names.append(f"the {thing.shape}")
    return names


def _several(clip: Clip, rng: np.random.Generator) -> list[Expression]:
    groups = [
        (f"the {colour} things", ref.fitting(clip, colour))
        for colour in COLOURS
        if colour not in ref.changing_colours(clip)
    ]
    groups += [(f"the {ref.plural(shape)}", ref.fitting(clip, None, shape)) for shape in SHAPES]
    for first, _ in () if clip.nameless else clip.look_alikes:
        thing = clip.things[first]
        words = f"the {thing.colour} {ref.plural(thing.shape)}"
        groups.append((words, ref.fitting(clip, thing.colour, thing.shape)))
    found = [
        Expression(text, tuple(things), "several") for text, things in groups if len(things) > 1
    ]
    keep = [int(i) for i in rng.permutation(len(found))[:2]]
    return [found[i] for i in sorted(keep)]


def _absent(clip: Clip, rng: np.random.Generator) -> Expression:
    return motion_not_made(clip, rng) if rng.random() < 0.3 else name_of_nothing(clip, rng)


def motion_not_made(clip: Clip, rng: np.random.Generator) -> Expression:
    """A thing of the clip with a motion that neither it nor any other of its name makes."""
    index = int(rng.integers(len(clip.things)))
    thing = clip.things[index]
    out = {clip.things[i].motion for i in (index, *ref.of_this_name(clip, index))}
    if clip.split == "train":  # asked and never seen, they would be learnt to be nowhere
        out |= reserved_motions(thing)
    motion = _draw(rng, [motion for motion in MOTIONS if motion not in out])
    return Expression(f"the {thing.name()} that {motion}", (), "absent")


def name_of_nothing(clip: Clip, rng: np.random.Generator) -> Expression:
    """A name that fits nothing, most often from words that fit something."""
    hard, easy = ref.absent_names(clip)
    names = hard if hard and rng.random() < 0.6 else easy
    return Expression(f"the {_draw(rng, names)}", (), "absent")


def _draw(rng: np.random.Generator, items: list[str]) -> str:
    return items[int(rng.integers(len(items)))]
