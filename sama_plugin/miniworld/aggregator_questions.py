"""What the aggregator is asked in its pre-training, and what its answer has to hold.

Questions are worded as the training data words them: what a thing pointed at or named does, masks
of expressions (plain, by motion, by history, several things, nothing), which thing does something.
Every question means a set of things, maybe none; facts of that set are the targets. Used by
`pretrain_aggregator.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from sama_plugin.data.formats import expressions as wording
from sama_plugin.data.formats import sama_239k
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.miniworld import reference as ref
from sama_plugin.miniworld.dialogues import SUFFIX
from sama_plugin.miniworld.expressions import expressions
from sama_plugin.miniworld.regions import region_questions
from sama_plugin.miniworld.things import COLOURS, HISTORIES, MOTIONS, SHAPES, Clip

ODDS = {
    "pointed": 0.34,
    "named": 0.10,
    "plain": 0.10,
    "motion": 0.18,
    "history": 0.08,
    "several": 0.10,
    "absent": 0.10,
}
"""Kinds of questions and how often each is drawn when the clip allows it."""
MOST = 3
"""Numbers of things are told apart up to this one."""
ABSENT_TRIES = 4
UNKNOWN = -1
CLASSES = {
    "motion": len(MOTIONS),
    "colour": len(COLOURS),
    "shape": len(SHAPES),
    "count": MOST + 1,
}
"""Facts with one class each; `history` has one bit for each of HISTORIES."""


@dataclass(frozen=True)
class Asked:
    """A question about a clip: `pointed` are the things of its `<region>` marks, `meant` those that
    it asks about.
    """

    text: str
    kind: str
    pointed: tuple[int, ...]
    meant: tuple[int, ...]


def questions(clip: Clip, rng: np.random.Generator, count: int) -> list[Asked]:
    """`count` questions, kinds drawn by `ODDS`; the same one may come twice in a poor clip."""
    pools: dict[str, list[Asked]] = {kind: [] for kind in ODDS}
    for asked in (*_pointed(clip, rng), *_named(clip, rng), *_which(clip), *_sought(clip, rng)):
        pools[asked.kind].append(asked)
    kinds = [kind for kind in ODDS if pools[kind]]
    odds = np.array([ODDS[kind] for kind in kinds])
    drawn = rng.choice(len(kinds), count, p=odds / odds.sum())
    return [_draw(rng, pools[kinds[int(number)]]) for number in drawn]


def facts(clip: Clip, meant: Sequence[int]) -> tuple[dict[str, int], list[int]]:
    """Class of each of `CLASSES`, and a bit for each history; `UNKNOWN` where several things, or
    none, are meant, and for how a nameless thing looks.
    """
    found = dict.fromkeys(CLASSES, UNKNOWN)
    found["count"] = min(len(meant), MOST)
    if len(meant) != 1:
        return found, [UNKNOWN] * len(HISTORIES)
    thing = clip.things[meant[0]]
    found["motion"] = MOTIONS.index(thing.motion)
    if not thing.nameless:
        found["colour"] = list(COLOURS).index(thing.colour)
        found["shape"] = SHAPES.index(thing.shape)
    happened = {history for history, _ in clip.histories(meant[0])}
    return found, [int(history in happened) for history in HISTORIES]


def _pointed(clip: Clip, rng: np.random.Generator) -> list[Asked]:
    found = []
    for asked in region_questions(clip, rng):
        if len(asked.things) != 1:
            continue
        text = asked.question
        if asked.kind in ("does", "history") and rng.random() < 0.4:
            text += SUFFIX
        if asked.kind == "what" and rng.random() < 0.5:
            text = _draw(rng, sama_239k.DESCRIBE).format(REGION_MARK)
        found.append(Asked(text, "pointed", asked.things, asked.things))
        if asked.kind in ("does", "history"):  # the ones that matter, twice
            found.append(found[-1])
    return found


def _named(clip: Clip, rng: np.random.Generator) -> list[Asked]:
    found = []
    for index in range(len(clip.things)):
        name = ref.reference(clip, index)
        if name is not None:
            form = _draw(rng, ("What does the {} do?", "How does the {} move?"))
            found.append(Asked(form.format(name), "named", (), (index,)))
    return found


def _which(clip: Clip) -> list[Asked]:
    found = []
    for index in range(len(clip.things)):
        others = [other for other in range(len(clip.things)) if other != index]
        for kind, words in ref.distinguishing(clip, index, others):
            found.append(Asked(f"Which thing {words}?{SUFFIX}", kind, (), (index,)))
    return found


def _sought(clip: Clip, rng: np.random.Generator) -> list[Asked]:
    said = expressions(clip, rng)
    for _ in range(ABSENT_TRIES):
        if any(one.kind == "absent" for one in said):
            break
        said += [one for one in expressions(clip, rng) if one.kind == "absent"]
    found = []
    for one in said:
        text = wording.ask(one.text, _draw(rng, wording.ASK))
        if rng.random() < 0.3:
            text = f"{_draw(rng, ('Find', 'Show me'))} {one.text}.{SUFFIX}"
        found.append(Asked(text, one.kind, (), one.things))
    return found


def _draw(rng: np.random.Generator, items: Sequence):
    return items[int(rng.integers(len(items)))]
