"""How things of a clip are named and what is said about them: the grammar all languages share.

A colour word fits a thing that has that colour at any time; a name is used to refer only when it
fits one thing. What a thing does is its motion, followed by its history where it has one. Used by
`chat`, `regions`, `expressions` and `dialogues`.
"""

from __future__ import annotations

from typing import Iterator, Optional

from sama_plugin.miniworld.motion import trajectory
from sama_plugin.miniworld.reserved import reserved_motions
from sama_plugin.miniworld.things import (
    BEHIND,
    CHANGES,
    COLOURS,
    HIDES,
    HISTORIES,
    IN_FRONT,
    LEAVES,
    SHAPES,
    Clip,
)

BASE_FORMS = {
    HIDES: "hide",
    LEAVES: "leave and return",
    CHANGES: "change colour",
    BEHIND: "pass behind a thing",
    IN_FRONT: "pass in front of a thing",
}
"""History -> the verb after "does"."""


def fitting(
    clip: Clip, colour: Optional[str] = None, shape: Optional[str] = None, texture: str = ""
) -> list[int]:
    """Things that fit all given words."""
    return [
        index
        for index, thing in enumerate(clip.things)
        if (colour is None or colour in thing.colours)
        and (shape is None or shape == thing.shape)
        and (not texture or texture == thing.texture)
    ]


def is_unique(clip: Clip, index: int) -> bool:
    """Whether the thing's name ("red circle") fits no other thing."""
    return not of_this_name(clip, index)


def twin(clip: Clip, index: int) -> Optional[int]:
    """The thing's look-alike."""
    for pair in clip.look_alikes:
        if index in pair:
            return pair[1 - pair.index(index)]
    return None


def changing_colours(clip: Clip) -> set[str]:
    """Colours that some thing has only for a while; group words with them would be ambiguous."""
    return {colour for thing in clip.things if len(thing.colours) > 1 for colour in thing.colours}


def histories(clip: Clip, index: int) -> Iterator[tuple[str, str]]:
    """(history, predicate) of a thing: ("passes behind", "passes behind the blue square")."""
    for history, other in clip.histories(index):
        predicate = history if other is None else f"{history} the {clip.things[other].name()}"
        yield history, predicate


def predicates(clip: Clip, index: int) -> list[tuple[str, str]]:
    """What can stand after "that", as (kind, words): the motion, then each history.

    A crossing is said only when the other thing's name fits no other.
    """
    said = [("motion", clip.things[index].motion)]
    for (history, other), (_, words) in zip(clip.histories(index), histories(clip, index)):
        if history != LEAVES and (other is None or is_unique(clip, other)):
            said.append(("history", words))
    return [("history", LEAVES)] if said[0][1] == LEAVES else said


def distinguishing(clip: Clip, index: int, others: list[int]) -> list[tuple[str, str]]:
    """The thing's predicates that fit none of `others`.

    In training clips never a motion that is reserved with the look of one of `others`: such a look
    would always be passed over, and be learnt as never moving that way.
    """
    taken = {words for other in others for _, words in predicates(clip, other)}
    if clip.split == "train":
        taken |= {motion for other in others for motion in reserved_motions(clip.things[other])}
    return [(kind, words) for kind, words in predicates(clip, index) if words not in taken]


def reference(clip: Clip, index: int) -> Optional[str]:
    """Words that fit this thing only: its name, or "red circle that moves left"."""
    name = clip.things[index].name()
    if is_unique(clip, index):
        return name
    found = distinguishing(clip, index, of_this_name(clip, index))
    return f"{name} that {found[0][1]}" if found else None


def of_this_name(clip: Clip, index: int) -> list[int]:
    """The other things that a thing's name fits; that of a nameless one fits all."""
    thing = clip.things[index]
    looks = (None, None) if thing.nameless else (thing.colour, thing.shape)
    return [other for other in fitting(clip, *looks) if other != index]


def deed(clip: Clip, index: int, mark=lambda name, other: f"the {name}") -> str:
    """All a thing does: "moves left and passes behind the blue square".

    Args:
        mark: writes the name of another thing, given its name and its index.
    """
    thing = clip.things[index]
    said = [thing.motion]
    for history, other in clip.histories(index):
        if history == CHANGES:
            said.append(CHANGES if thing.nameless else f"{CHANGES} to {thing.colour_after}")
        elif other is not None:
            said.append(f"{history} {mark(clip.things[other].name(), other)}")
        elif history != LEAVES:
            said.append(history)
    return " and ".join(said)


def left_to_right(clip: Clip) -> list[int]:
    """Things by their horizontal place at the first frame."""
    start = [trajectory(thing)[0, 0] for thing in clip.things]
    return sorted(range(len(start)), key=lambda index: start[index])


def a(name: str) -> str:
    """The name with its indefinite article."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def plural(noun: str) -> str:
    return f"{noun}es" if noun == "cross" else f"{noun}s"


def absent_names(clip: Clip) -> tuple[list[str], list[str]]:
    """Names that fit nothing: those whose colour and shape are there (hard), and others."""
    colours = {colour for thing in clip.things for colour in thing.colours}
    shapes = {thing.shape for thing in clip.things}
    hard, easy = [], []
    for colour in COLOURS:
        for shape in SHAPES:
            if not fitting(clip, colour, shape):
                both = colour in colours and shape in shapes
                (hard if both else easy).append(f"{colour} {shape}")
    return hard, easy


def happening(clip: Clip) -> set[str]:
    """Histories that happen to some thing of the clip."""
    found = {history for index in range(len(clip.things)) for history, _ in clip.histories(index)}
    assert found <= set(HISTORIES)
    return found
