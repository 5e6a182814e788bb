"""Questions about something pointed at: `<region>` in the question, a short answer, no masks.

All answers come from small closed sets, so chance levels are known (`chance`). Used for referring
data, by `dialogues` and by `cases`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.miniworld import reference as ref
from sama_plugin.miniworld.motion import GRID, place, trajectories
from sama_plugin.miniworld.things import COLOURS, HISTORIES, MOTIONS, SHAPES, Clip

KINDS = ("what", "colour", "does", "history", "place", "relation", "same")


@dataclass(frozen=True)
class RegionQuestion:
    """`things` are pointed at by the `<region>` marks of `question`, in order."""

    question: str
    answer: str
    kind: str
    things: tuple[int, ...]


def region_questions(clip: Clip, rng: np.random.Generator) -> list[RegionQuestion]:
    """Two or three questions a thing (what it is, what it does, one more), and one about a pair; of
    a nameless thing what it does.
    """
    if clip.nameless:
        return [_does(clip, int(index)) for index in rng.permutation(len(clip.things))]
    found = []
    ways = trajectories(clip)
    for index in range(len(clip.things)):
        found += [_what(clip, index), _does(clip, index)]
        more = [*_relations(clip, index), _colour(clip, index), _place(ways, index, rng)]
        more = [question for question in more if question is not None]
        found.append(more[int(rng.integers(len(more)))])
    found.append(_same(clip, rng))
    return [found[int(i)] for i in rng.permutation(len(found))]


def chance(kind: str) -> float:
    """Share of right answers of a model that guesses evenly among the answers of a kind."""
    return {
        "what": 1 / (len(COLOURS) * len(SHAPES)),
        "colour": 1 / len(COLOURS),
        "does": 1 / len(MOTIONS),
        "history": 1 / (len(MOTIONS) * len(HISTORIES)),
        "place": 1 / GRID**2,
        "relation": 1 / (len(COLOURS) * len(SHAPES)),
        "same": 1 / 2,
    }[kind]


def _what(clip: Clip, index: int) -> RegionQuestion:
    answer = f"It is {ref.a(clip.things[index].name())}."
    return RegionQuestion(f"What is {REGION_MARK}?", answer, "what", (index,))


def _does(clip: Clip, index: int) -> RegionQuestion:
    kind = "history" if clip.histories(index) else "does"
    answer = f"It {ref.deed(clip, index)}."
    return RegionQuestion(f"What does {REGION_MARK} do?", answer, kind, (index,))


def _colour(clip: Clip, index: int):
    thing = clip.things[index]
    if len(thing.colours) > 1:
        question = f"What colour is {REGION_MARK} at the end?"
    else:
        question = f"What colour is {REGION_MARK}?"
    return RegionQuestion(question, f"It is {thing.colours[-1]}.", "colour", (index,))


def _place(ways: np.ndarray, index: int, rng: np.random.Generator) -> RegionQuestion:
    frame, when = ((0, "start"), (-1, "end"))[int(rng.integers(2))]
    x, y = place(ways[frame, index])
    question = f"Where is {REGION_MARK} at the {when}?"
    return RegionQuestion(question, f"At x {x}, y {y}.", "place", (index,))


def _relations(clip: Clip, index: int) -> list[RegionQuestion]:
    """What it passes, and what passes it; both directions of every crossing, where a mover makes
    it.
    """
    found = []
    for history, other in clip.histories(index):
        if other is not None:
            verb = history.replace("passes", "pass")
            name = clip.things[other].name()
            question = f"What does {REGION_MARK} {verb}?"
            found.append(RegionQuestion(question, f"The {name}.", "relation", (index,)))
    for other, thing in enumerate(clip.things):
        for history, passed in clip.histories(other):
            if passed == index:
                question = f"What {history} {REGION_MARK}?"
                found.append(RegionQuestion(question, f"The {thing.name()}.", "relation", (index,)))
    return found


def _same(clip: Clip, rng: np.random.Generator) -> RegionQuestion:
    """Whether two things share their shape or their colour; as often yes as no where both occur."""
    changing = ref.changing_colours(clip)
    answers: dict[str, list[tuple[tuple[int, int], str]]] = {"Yes.": [], "No.": []}
    for first, second in combinations(range(len(clip.things)), 2):
        one, two = clip.things[first], clip.things[second]
        answers["Yes." if one.shape == two.shape else "No."].append(((first, second), "shape"))
        if not {one.colour, two.colour} & changing:
            same = "Yes." if one.colour == two.colour else "No."
            answers[same].append(((first, second), "colour"))
    answer = "Yes." if rng.random() < 0.5 else "No."
    answer = answer if answers[answer] else {"Yes.": "No.", "No.": "Yes."}[answer]
    pair, what = answers[answer][int(rng.integers(len(answers[answer])))]
    pair = pair[::-1] if rng.random() < 0.5 else pair
    question = f"Are {REGION_MARK} and {REGION_MARK} the same {what}?"
    return RegionQuestion(question, answer, "same", pair)
