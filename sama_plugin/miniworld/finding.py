"""Grounded conversations in words alone: phrases with places, as InternVL itself says them.

An InternVL answers "find it" with `<ref>the red circle</ref><box>[[...]]</box>`. The mini host
learns the same habit with places of the mini world's own kind (x and y on a 16 by 16 grid, at the
start and at the end) from the conversations of `dialogues`, so that it knows where a phrase is
before the plugin asks it for masks. Used by the host's pre-training only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from sama_plugin.dialog.tokens import PHRASE_CLOSE, PHRASE_OPEN, SEG
from sama_plugin.miniworld.dialogues import SUFFIX, dialogues
from sama_plugin.miniworld.motion import place, trajectories
from sama_plugin.miniworld.things import Clip

BOX = "<box>"
ASKED = " Give boxes."
BARE_ODDS = 0.4
"""How often a thing that was asked for by name is answered without repeating the name."""
PHRASE = re.compile(f"{re.escape(PHRASE_OPEN)} (.*?) {re.escape(PHRASE_CLOSE)} {re.escape(SEG)}")


@dataclass(frozen=True)
class FoundTurn:
    """A question, its answer, and the thing of every `<box>` in the answer."""

    question: str
    answer: str
    things: tuple[int, ...]
    kind: str = "find"


def finding_turns(clip: Clip, rng: np.random.Generator, n: int) -> list[FoundTurn]:
    """At least `n` turns; a conversation ends where it would point at a region."""
    turns: list[FoundTurn] = []
    while len(turns) < n:
        for turn in dialogues(clip, rng):
            if turn.regions:
                break
            asked = turn.question.replace(SUFFIX, ASKED)
            bare = turn.kind == "find" and rng.random() < BARE_ODDS
            turns.append(
                FoundTurn(asked, _placed(clip, turn.answer, turn.targets, bare), turn.targets)
            )
    return turns


def _placed(clip: Clip, answer: str, things: tuple[int, ...], bare: bool) -> str:
    """The answer with `<ref> phrase </ref><box>x y x y</box>` for every phrase with a mask."""
    ways, left = trajectories(clip), iter(things)

    def box(found: re.Match) -> str:
        thing = next(left)
        numbers = [number for frame in (0, -1) for number in place(ways[frame, thing])]
        name = "" if bare else f"<ref> {found[1]} </ref>"
        return f"{name}{BOX}{' '.join(map(str, numbers))}</box>"

    return PHRASE.sub(box, answer)
