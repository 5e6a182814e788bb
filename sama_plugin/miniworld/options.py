"""Multiple choice about something pointed at, in the wording of VideoRefer-Bench-Q.

Four options, one right. Wrong options are of the same kind, first those that are true of another
thing of the clip. Used by `write`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

import numpy as np

from sama_plugin.data.formats.videorefer_bench import choices
from sama_plugin.dialog.sample import Region, Turn
from sama_plugin.miniworld import reference as ref
from sama_plugin.miniworld.regions import RegionQuestion, region_questions
from sama_plugin.miniworld.reserved import reserved_motions
from sama_plugin.miniworld.things import COLOURS, MOTIONS, SHAPES, Clip

TYPES = {
    "what": "Basic Questions",
    "colour": "Basic Questions",
    "does": "Sequential Questions",
    "history": "Sequential Questions",
    "relation": "Relationship Questions",
}
"""Kind of region question -> question type of the benchmark."""
LETTERS = "ABCD"


@dataclass(frozen=True)
class Choice:
    """`options` as the benchmark writes them ("(A) moves left"), `letter` the right one."""

    asked: RegionQuestion
    options: tuple[str, ...]
    letter: str
    type: str

    def turn(self, region: Callable[[int], Region]) -> Turn:
        """As a turn; `region` says how a thing is pointed at."""
        question = choices({"Question": self.asked.question, "options": self.options})
        return Turn(question, self.letter, tuple(region(index) for index in self.asked.things))


def multiple_choice(clip: Clip, rng: np.random.Generator) -> list[Choice]:
    """The region questions of a clip that can be asked with options."""
    found = [_choice(clip, asked, rng) for asked in region_questions(clip, rng)]
    return [choice for choice in found if choice is not None]


def _choice(clip: Clip, asked: RegionQuestion, rng: np.random.Generator) -> Optional[Choice]:
    if asked.kind not in TYPES:
        return None
    right = _content(asked.answer)
    wrong = [
        text
        for text in _rivals(clip, asked.kind, rng)
        if not _both_true(text, right) and not _always_wrong(clip, asked, text)
    ]
    options = [right, *list(dict.fromkeys(wrong))[: len(LETTERS) - 1]]
    order = rng.permutation(len(LETTERS))
    lettered = tuple(f"({letter}) {options[i]}" for letter, i in zip(LETTERS, order))
    return Choice(asked, lettered, LETTERS[list(order).index(0)], TYPES[asked.kind])


def _content(answer: str) -> str:
    """ "moves left" from "It moves left."."""
    text = answer.rstrip(".")
    for start in ("It is ", "It ", "The "):
        if text.startswith(start):
            return text[len(start) :]
    return text


def _always_wrong(clip: Clip, asked: RegionQuestion, text: str) -> bool:
    """Whether training would offer the option for such a look and never as the right one."""
    if clip.split != "train" or asked.kind not in ("does", "history"):
        return False
    return text.startswith(tuple(reserved_motions(clip.things[asked.things[0]])))


def _both_true(wrong: str, right: str) -> bool:
    """Whether an option says the same as the right one, or part of it."""
    return right.startswith(wrong) or wrong.startswith(right)


def _rivals(clip: Clip, kind: str, rng: np.random.Generator) -> list[str]:
    """Answers of a kind: those of the clip's things, then others, both in random order."""
    things = [int(i) for i in rng.permutation(len(clip.things))]
    if kind == "colour":
        here = [clip.things[i].colour for i in things]
        return here + [str(colour) for colour in rng.permutation(list(COLOURS))]
    if kind in ("does", "history"):
        here = [ref.deed(clip, i) for i in things]
        return here + [str(motion) for motion in rng.permutation(MOTIONS)]
    names = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    names = [clip.things[i].name() for i in things] + [str(name) for name in rng.permutation(names)]
    return [ref.a(name) for name in names] if kind == "what" else names
