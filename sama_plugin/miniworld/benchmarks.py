"""Held-out test cases of the mini world, one kind of ability each, all from clips never trained on.

Every case is a canonical Sample whose last turn is open, and that turn with its true answer and
masks. Expressions of kind "motion" and "history" are taken from look-alike pairs only, so that
attributes cannot solve them. Used by `eval`, the demo and the recipes.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from itertools import count as count_from
from typing import Callable, Iterator

import numpy as np

from sama_plugin.dialog.sample import Sample, Turn
from sama_plugin.miniworld import expressions as expressions_room
from sama_plugin.miniworld import regions as regions_room
from sama_plugin.miniworld.chat import chat_turns
from sama_plugin.miniworld.dialogues import dialogues
from sama_plugin.miniworld.expressions import Expression, expressions
from sama_plugin.miniworld.regions import region_questions
from sama_plugin.miniworld.scene import Scene, SceneFolder, plain
from sama_plugin.miniworld.world import sample_clip

PROMPTS = ("mask", "box", "points")
CHAT = 4


@dataclass(frozen=True)
class Case:
    """One question.

    Attributes:
        sample: the conversation up to the question, earlier turns with their true answers.
        reference: the question's turn with its true answer and targets.
        kind: what it tests; scores are grouped by it.
        prompt: how regions are pointed at ("" without regions).
        chance: share of right answers of a guesser, 0 where it is negligible.
    """

    sample: Sample
    reference: Turn
    kind: str
    prompt: str = ""
    chance: float = 0.0


def grounding_cases(scenes: SceneFolder, count: int = 2000, seed: int = 0) -> Iterator[Case]:
    """Requests for one mask, as many of each kind of expression; clips count from `seed`."""
    wanted = _quota(expressions_room.KINDS, count)
    for number in count_from(seed):
        if not any(wanted.values()):
            return
        chosen = []
        for expression in expressions(sample_clip(number, scenes.split), _rng(number)):
            if wanted[expression.kind] and _tests(expression):
                wanted[expression.kind] -= 1
                chosen.append(expression)
        if chosen:
            scene = scenes.scene(number)
            for place, expression in enumerate(chosen):
                turn = scene.expression(expression)
                yield _case(scene, f"expression{place}", (turn,), expression.kind)


def region_cases(scenes: SceneFolder, count: int = 2000, seed: int = 0) -> Iterator[Case]:
    """Questions about things pointed at on one random frame by mask, box or points, as many of each
    kind of question.
    """
    wanted = _quota(regions_room.KINDS, count)
    made = Counter()
    for number in count_from(seed):
        if not any(wanted.values()):
            return
        rng = _rng(number)
        asked = region_questions(sample_clip(number, scenes.split), rng)
        chosen = []
        for question in asked:
            if wanted[question.kind]:
                wanted[question.kind] -= 1
                chosen.append(question)
        scene = scenes.scene(number) if chosen else None
        for place, question in enumerate(chosen):
            prompt = PROMPTS[made[question.kind] % len(PROMPTS)]
            made[question.kind] += 1
            turn = scene.asked(question, _pointing(scene, prompt, rng))
            case = _case(scene, f"region{place}", (turn,), question.kind)
            chance = regions_room.chance(question.kind)
            yield dataclasses.replace(case, prompt=prompt, chance=chance)


def dialogue_cases(scenes: SceneFolder, count: int = 2000, seed: int = 0) -> Iterator[Case]:
    """Every turn of grounded conversations, after the true answers of the turns before it."""
    left = count
    for number in count_from(seed):
        rng = _rng(number)
        scene = scenes.scene(number)
        prompt = PROMPTS[number % len(PROMPTS)]
        region = _pointing(scene, prompt, rng)
        said = dialogues(scene.clip, rng)
        turns = [scene.grounded(turn, region) for turn in said]
        for place, turn in enumerate(said):
            if not left:
                return
            left -= 1
            case = _case(scene, f"turn{place}", tuple(turns[: place + 1]), turn.kind)
            yield dataclasses.replace(case, prompt=prompt if turn.regions else "")


def chat_cases(scenes: SceneFolder, count: int = 2000, seed: int = 0) -> Iterator[Case]:
    """Single plain questions, a few a clip."""
    left = count
    for number in count_from(seed):
        scene = scenes.scene(number)
        for place, turn in enumerate(chat_turns(scene.clip, _rng(number), CHAT)):
            if not left:
                return
            left -= 1
            yield _case(scene, f"chat{place}", (plain(turn),), turn.kind)


CASES: dict[str, Callable[..., Iterator[Case]]] = {
    "mini_grounding": grounding_cases,
    "mini_regions": region_cases,
    "mini_dialogues": dialogue_cases,
    "mini_chat": chat_cases,
}


def _tests(expression: Expression) -> bool:
    """Whether nothing but its kind identifies what the expression means."""
    return expression.look_alike or expression.kind not in ("motion", "history")


def _case(scene: Scene, name: str, turns: tuple[Turn, ...], kind: str) -> Case:
    *before, last = turns
    asked = Turn(last.user, regions=last.regions)
    return Case(scene.sample(name, (*before, asked), (kind,)), last, kind)


def _pointing(scene: Scene, prompt: str, rng: np.random.Generator) -> Callable:
    return lambda index: scene.pointed(index, prompt, rng)


def _quota(kinds: tuple[str, ...], count: int) -> dict[str, int]:
    """`count` shared out evenly."""
    return {kind: (count + place) // len(kinds) for place, kind in enumerate(kinds)}


def _rng(number: int) -> np.random.Generator:
    return np.random.default_rng([number, 2])
