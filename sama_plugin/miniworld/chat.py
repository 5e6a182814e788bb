"""Plain talk about a clip: questions and short answers without regions or masks.

This is what the mini host learns before it meets the plugin. Every answer follows from the clip,
ambiguous references are never asked, wording is closed (see `tokenizer.WORLD_WORDS`). Used by
`language`, the host's pre-training, and the datasets of plain chat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sama_plugin.miniworld import reference as ref
from sama_plugin.miniworld.motion import GRID, place, trajectories
from sama_plugin.miniworld.things import CHANGES, COLOURS, HISTORIES, SHAPES, Clip

KINDS = {
    "colour": 0.09,
    "shape": 0.09,
    "texture": 0.06,
    "size": 0.05,
    "count": 0.08,
    "exists": 0.08,
    "does": 0.17,
    "which": 0.10,
    "event": 0.05,
    "becomes": 0.05,
    "where": 0.08,
    "row": 0.03,
    "at": 0.06,
    "describe": 0.09,
}
"""Kinds of questions and how often each is drawn when the clip allows it."""

STILL_KINDS = ("colour", "shape", "texture", "size", "count", "exists")
"""Kinds that a few frames, wherever they lie, suffice to answer (as long as nothing is hidden)."""


@dataclass(frozen=True)
class ChatTurn:
    """A question with its answer; `kind` is for scores by kind."""

    question: str
    answer: str
    kind: str


def chat_turns(clip: Clip, rng: np.random.Generator, n: int) -> list[ChatTurn]:
    """Up to `n` different questions, kinds drawn by `KINDS`; fewer where the clip is poor."""
    pools = {kind: _POOLS[kind](clip, rng) for kind in KINDS}
    turns: list[ChatTurn] = []
    while len(turns) < n:
        kinds = [kind for kind in KINDS if pools[kind]]
        if not kinds:
            break
        odds = np.array([KINDS[kind] for kind in kinds])
        kind = kinds[int(rng.choice(len(kinds), p=odds / odds.sum()))]
        pool = pools[kind]
        question, answer = pool.pop(int(rng.integers(len(pool))))
        turns.append(ChatTurn(question, answer, kind))
    return turns


Pool = list  # of (question, answer)


def _named(clip: Clip) -> list[int]:
    return [index for index in range(len(clip.things)) if ref.is_unique(clip, index)]


def _colour(clip: Clip, rng: np.random.Generator) -> Pool:
    found = []
    for shape in SHAPES:
        things = ref.fitting(clip, shape=shape)
        if len(things) == 1 and len(clip.things[things[0]].colours) == 1:
            found.append(
                (f"What colour is the {shape}?", f"It is {clip.things[things[0]].colour}.")
            )
    return found


def _shape(clip: Clip, rng: np.random.Generator) -> Pool:
    found = []
    for colour in set(COLOURS) - ref.changing_colours(clip):
        things = ref.fitting(clip, colour)
        if len(things) == 1:
            answer = f"It is a {clip.things[things[0]].shape}."
            found.append((f"What shape is the {colour} thing?", answer))
    return sorted(found)


def _texture(clip: Clip, rng: np.random.Generator) -> Pool:
    return [
        (f"What texture is the {clip.things[i].name()}?", f"It is {clip.things[i].texture}.")
        for i in _named(clip)
    ]


def _size(clip: Clip, rng: np.random.Generator) -> Pool:
    return [
        (f"What size is the {clip.things[i].name()}?", f"It is {clip.things[i].size}.")
        for i in _named(clip)
    ]


def _count(clip: Clip, rng: np.random.Generator) -> Pool:
    found = [("How many things are there?", len(clip.things))]
    for colour in set(COLOURS) - ref.changing_colours(clip):
        found.append((f"How many {colour} things are there?", len(ref.fitting(clip, colour))))
    for shape in SHAPES:
        found.append(
            (f"How many {ref.plural(shape)} are there?", len(ref.fitting(clip, None, shape)))
        )
    some = sorted(pair for pair in found if pair[1])
    none = sorted(pair for pair in found if not pair[1])
    keep = int(rng.random() < 0.5)
    picked = [none[int(rng.integers(len(none)))]] if keep else []
    return [(question, f"{count}.") for question, count in some + picked]


def _exists(clip: Clip, rng: np.random.Generator) -> Pool:
    changing = ref.changing_colours(clip)
    here = sorted({t.name() for t in clip.things if not set(t.colours) & changing})
    hard, easy = ref.absent_names(clip)
    found = [(f"Is there {ref.a(name)}?", "Yes.") for name in here]
    for _ in here:
        names = hard if hard and rng.random() < 0.6 else easy
        name = names.pop(int(rng.integers(len(names))))
        found.append((f"Is there {ref.a(name)}?", "No."))
    return found


def _does(clip: Clip, rng: np.random.Generator) -> Pool:
    found = []
    for index in _named(clip):
        name = clip.things[index].name()
        question = ("What does the {} do?", "How does the {} move?")[int(rng.integers(2))]
        found.append((question.format(name), f"It {ref.deed(clip, index)}."))
    return found


def _which(clip: Clip, rng: np.random.Generator) -> Pool:
    found = []
    for index, thing in enumerate(clip.things):
        others = [other for other in range(len(clip.things)) if other != index]
        for _, words in ref.distinguishing(clip, index, others):
            found.append((f"Which thing {words}?", f"The {thing.name()}."))
    return found


def _event(clip: Clip, rng: np.random.Generator) -> Pool:
    happening = ref.happening(clip)
    found = []
    for answer, histories in (
        ("Yes.", sorted(happening)),
        ("No.", [h for h in HISTORIES if h not in happening]),
    ):
        if histories:
            history = histories[int(rng.integers(len(histories)))]
            found.append((f"Does a thing {ref.BASE_FORMS[history]}?", answer))
    return found if len(found) == 2 or rng.random() < 0.3 else []


def _becomes(clip: Clip, rng: np.random.Generator) -> Pool:
    return [
        (f"What colour is the {thing.name()} at the end?", f"It is {thing.colour_after}.")
        for index, thing in enumerate(clip.things)
        if thing.history == CHANGES and ref.is_unique(clip, index)
    ]


def _where(clip: Clip, rng: np.random.Generator) -> Pool:
    ways = trajectories(clip)
    found = []
    for index in range(len(clip.things)):
        name = ref.reference(clip, index)
        for frame, when in ((0, "start"), (-1, "end")):
            x, y = place(ways[frame, index])
            if name:
                found.append((f"Where is the {name} at the {when}?", f"At x {x}, y {y}."))
    return found


def _row(clip: Clip, rng: np.random.Generator) -> Pool:
    ways = trajectories(clip)
    found = []
    for index in _named(clip):
        for frame, when in ((0, "start"), (-1, "end")):
            column, row = (1 + 4 * v // GRID for v in place(ways[frame, index]))
            question = f"In which row and column is the {clip.things[index].name()} at the {when}?"
            found.append((question, f"Row {row}, column {column}."))
    return found


def _at(clip: Clip, rng: np.random.Generator) -> Pool:
    ways = trajectories(clip)
    found = []
    for frame, when in ((0, "start"), (-1, "end")):
        places = [place(centre) for centre in ways[frame]]
        for index, (x, y) in enumerate(places):
            thing = clip.things[index]
            name = ref.a(f"{thing.colours[frame]} {thing.shape}").capitalize()
            if places.count((x, y)) == 1:
                found.append((f"What is at x {x}, y {y} at the {when}?", f"{name}."))
    return found


def _describe(clip: Clip, rng: np.random.Generator) -> Pool:
    clauses = [
        f"{ref.a(clip.things[index].name())} {ref.deed(clip, index)}"
        for index in ref.left_to_right(clip)
    ]
    return [("Describe the video.", "; ".join(clauses).capitalize() + ".")]


_POOLS = {
    "colour": _colour,
    "shape": _shape,
    "texture": _texture,
    "size": _size,
    "count": _count,
    "exists": _exists,
    "does": _does,
    "which": _which,
    "event": _event,
    "becomes": _becomes,
    "where": _where,
    "row": _row,
    "at": _at,
    "describe": _describe,
}
