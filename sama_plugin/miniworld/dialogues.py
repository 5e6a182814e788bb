"""Grounded conversations: questions that point, answers whose phrases come with masks, follow-ups.

An answer grounds when the question asks for masks in the words of SAMA-239K (`SUFFIX`), so that
this data reads the same after a trip through the real format. Each thing has its own phrase:
`<p> the red circle </p> [SEG]`. One question in ten is about something that is not there; it gets a
plain sentence. Used for training data and by `cases`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from sama_plugin.dialog.tokens import PHRASE_CLOSE, PHRASE_OPEN, REGION_MARK, SEG
from sama_plugin.miniworld import reference as ref
from sama_plugin.miniworld.expressions import expressions
from sama_plugin.miniworld.regions import region_questions
from sama_plugin.miniworld.things import BEHIND, Clip

SUFFIX = " Response with interleaved segmentation masks."
"""How SAMA-239K asks for masks."""
TURNS = (2, 4)
"""Least and most turns of a conversation; readers of SAMA-239K cut longer ones apart."""
FOLLOW_UPS = ("deed", "passed", "other")
FOLLOW_UP_ODDS = 0.75
PLAIN_ODDS = 0.2
ABSENT_ODDS = 0.12


@dataclass(frozen=True)
class GroundedTurn:
    """`regions`: the thing of each `<region>` asked about, `targets`: that of each [SEG]."""

    question: str
    answer: str
    regions: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()
    kind: str = "grounded"


@dataclass
class _Talk:
    """A conversation in the making. `topic` is the thing spoken of last."""

    clip: Clip
    rng: np.random.Generator
    turns: list[GroundedTurn] = field(default_factory=list)
    topic: Optional[int] = None

    def ask(
        self, question: str, answer: str, kind: str, regions=(), targets=(), topic=None
    ) -> None:
        """Add a turn that asks for masks, and make `topic` what a follow-up may refer to."""
        self.add(
            GroundedTurn(question + SUFFIX, answer, tuple(regions), tuple(targets), kind), topic
        )

    def add(self, turn: GroundedTurn, topic: Optional[int] = None) -> None:
        """Add a turn unless the same was asked before; follow-ups mean something new each time."""
        asked = {(before.question, before.regions) for before in self.turns}
        if turn.kind not in FOLLOW_UPS and (turn.question, turn.regions) in asked:
            return
        self.turns.append(turn)
        self.topic = topic

    def draw(self, items):
        return items[int(self.rng.integers(len(items)))]


def dialogues(clip: Clip, rng: np.random.Generator) -> list[GroundedTurn]:
    """One conversation of 2 to 4 turns about a clip."""
    talk = _Talk(clip, rng)
    wanted = int(rng.integers(TURNS[0], TURNS[1] + 1))
    openings = [_point, _find, _find, _several, _which, _describe]
    while len(talk.turns) < wanted:
        draw = rng.random()
        if draw < ABSENT_ODDS:
            _absent(talk)
        elif draw < ABSENT_ODDS + PLAIN_ODDS:
            _plain(talk)
        else:
            talk.draw(openings)(talk)
            while talk.topic is not None and rng.random() < FOLLOW_UP_ODDS:
                _follow_up(talk)
    return talk.turns[: TURNS[1]]


def grounded(name: str, article: str = "the") -> str:
    """A phrase with its mask token: "<p> the red circle </p> [SEG]"."""
    return f"{PHRASE_OPEN} {article} {name} {PHRASE_CLOSE} {SEG}"


def _deed(talk: _Talk, index: int, subject: str) -> tuple[str, list[int]]:
    """A sentence on what a thing does, every thing in it grounded, and the things in order."""
    targets = [index]

    def mark(name: str, other: int) -> str:
        targets.append(other)
        return grounded(name)

    return f"{subject} {ref.deed(talk.clip, index, mark)}.", targets


def _point(talk: _Talk) -> None:
    index = int(talk.rng.integers(len(talk.clip.things)))
    answer, targets = _deed(talk, index, grounded(talk.clip.things[index].name(), "The"))
    question = f"What does {REGION_MARK} do?"
    talk.ask(question, answer, "point", (index,), targets, topic=index)


def _find(talk: _Talk) -> None:
    found = [e for e in expressions(talk.clip, talk.rng) if len(e.things) == 1]
    if not found:
        return
    chosen = talk.draw([e for e in found if e.look_alike] or found)
    text = chosen.text[len("the ") :]
    (index,) = chosen.things
    question = f"{talk.draw(('Find', 'Show me'))} the {text}."
    talk.ask(question, f"It is {grounded(text)}.", "find", (), (index,), topic=index)


def _several(talk: _Talk) -> None:
    found = [e for e in expressions(talk.clip, talk.rng) if e.kind == "several"]
    if not found:
        return
    chosen = talk.draw(found)
    things = [index for index in ref.left_to_right(talk.clip) if index in chosen.things]
    phrases = [grounded(talk.clip.things[index].name()) for index in things]
    answer = f"They are {_listed(phrases)}."
    talk.ask(f"Find all {chosen.text[len('the ') :]}.", answer, "several", (), things)


def _which(talk: _Talk) -> None:
    things = range(len(talk.clip.things))
    index = int(talk.rng.integers(len(things)))
    told = ref.distinguishing(talk.clip, index, [other for other in things if other != index])
    if told:
        answer = f"It is {grounded(talk.clip.things[index].name())}."
        question = f"Which thing {talk.draw(told)[1]}?"
        talk.ask(question, answer, "which", (), (index,), topic=index)


def _describe(talk: _Talk) -> None:
    if any(turn.kind == "describe" for turn in talk.turns):
        return
    order = ref.left_to_right(talk.clip)
    clauses = []
    for index in order:
        name = talk.clip.things[index].name()
        article = ref.a(name).split()[0]
        article = article.capitalize() if not clauses else article
        clauses.append(f"{grounded(name, article)} {ref.deed(talk.clip, index)}")
    talk.ask("Describe the video.", "; ".join(clauses) + ".", "describe", (), order)


def _absent(talk: _Talk) -> None:
    hard, easy = ref.absent_names(talk.clip)
    name = talk.draw(hard if hard and talk.rng.random() < 0.6 else easy)
    question = f"{talk.draw(('Find', 'Show me'))} the {name}."
    talk.ask(question, f"There is no {name}.", "absent")


def _plain(talk: _Talk) -> None:
    """A question about a region that does not ask for masks."""
    asked = talk.draw(region_questions(talk.clip, talk.rng))
    talk.add(GroundedTurn(asked.question, asked.answer, asked.things, (), "plain"))


def _follow_up(talk: _Talk) -> None:
    """A question that only the turn before makes clear; there may be none, which ends the topic."""
    index, talk.topic = talk.topic, None
    clip, before = talk.clip, talk.turns[-1]
    options = []
    if before.kind in ("find", "which"):
        options.append(_what_then)
    if before.kind in ("point", "deed") and any(
        other is not None for _, other in clip.histories(index)
    ):
        options.append(_the_passed_one)
    if ref.twin(clip, index) is not None and before.kind != "other":
        options.append(_the_other)
    if options:
        talk.draw(options)(talk, index)


def _what_then(talk: _Talk, index: int) -> None:
    answer, targets = _deed(talk, index, grounded(talk.clip.things[index].name(), "The"))
    talk.ask("What does it do?", answer, "deed", (), targets, topic=index)


def _the_passed_one(talk: _Talk, index: int) -> None:
    history, other = talk.draw([h for h in talk.clip.histories(index) if h[1] is not None])
    side = "behind" if history == BEHIND else "in front of"
    name = talk.clip.things[other].name()
    answer, targets = _deed(talk, other, grounded(name, "The"))
    question = f"And the one it passes {side}?"
    talk.ask(question, answer, "passed", (), targets, topic=other)


def _the_other(talk: _Talk, index: int) -> None:
    other = ref.twin(talk.clip, index)
    name = talk.clip.things[other].name()
    answer, targets = _deed(talk, other, grounded(f"other {name}", "The"))
    talk.ask(f"And the other {name}?", answer, "other", (), targets, topic=other)


def _listed(phrases: list[str]) -> str:
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]])
