"""Scripted conversations about held-out clips, with the truth beside them.

A script is the first conversation, in the order of seeds, that has the turns the demo wants to
show; it is chosen by what the clip holds, never by what a model answers. Things are pointed at by
box, points, mask and scribble in turn, and the last question points at an earlier answer's mask.
Used by `demo`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Callable, Optional, Sequence

import numpy as np

from sama_plugin.dialog.parse import parse_answer
from sama_plugin.dialog.sample import Region
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.errors import RegionError
from sama_plugin.eval.tubes import mean_iou
from sama_plugin.infer.session import VideoSession
from sama_plugin.miniworld import reference as ref
from sama_plugin.miniworld.dialogues import GroundedTurn, dialogues
from sama_plugin.miniworld.scene import Scene, SceneFolder
from sama_plugin.miniworld.world import sample_clip

FIRST_SEED = 3_000_000
"""Past the seeds that evaluation uses."""
ATTEMPTS = 30
NAMES = ("this", "that", "it", "another", "third", "fourth")
POINTING = ("box", "points", "mask", "scribble")


@dataclass(frozen=True)
class Line:
    """One turn: what is typed, the true answer in plain words, and the things it should ground."""

    question: str
    answer: str
    targets: tuple[int, ...] = ()


@dataclass(frozen=True)
class Script:
    """A conversation about one held-out clip. `regions` are named before it begins."""

    title: str
    scene: Scene
    regions: dict[str, Region]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a line. `iou`: mean over its true and answered masks; None where there are none
    on either side. `failure`: why the question could not be asked.
    """

    line: Line
    iou: Optional[float] = None
    failure: str = ""


def crossing(turns: Sequence[GroundedTurn]) -> bool:
    """Points at a thing, asks for the one it passes, and tells look-alikes apart."""
    kinds = [turn.kind for turn in turns]
    telling = any(
        turn.kind == "find" and " that " in turn.question and "thing that" not in turn.question
        for turn in turns
    )
    return kinds[0] == "point" and "passed" in kinds and telling


def inventory(turns: Sequence[GroundedTurn]) -> bool:
    """Describes everything, asks for something that is not there, and about something pointed
    at.
    """
    several = any(turn.kind == "describe" and len(turn.targets) > 2 for turn in turns)
    absent = any(turn.kind == "absent" for turn in turns)
    deed = any(turn.kind == "plain" and "do?" in turn.question for turn in turns)
    return several and absent and deed


WANTED: dict[str, Callable[[Sequence[GroundedTurn]], bool]] = {
    "Who passes whom": crossing,
    "Everything, and what is not there": inventory,
}


def scripts(scenes: SceneFolder) -> list[Script]:
    """The demo's conversations; the same on every machine."""
    return [
        find_script(scenes, title, wanted, FIRST_SEED + 10_000 * number)
        for number, (title, wanted) in enumerate(WANTED.items())
    ]


def find_script(
    scenes: SceneFolder,
    title: str,
    wanted: Callable[[Sequence[GroundedTurn]], bool],
    first_seed: int,
) -> Script:
    """The first conversation from `first_seed` on that is `wanted`, and one question more."""
    for seed in count(first_seed):
        clip = sample_clip(seed, scenes.split)
        for attempt in range(ATTEMPTS):
            turns = dialogues(clip, np.random.default_rng([seed, attempt]))
            if wanted(turns):
                return _script(scenes.scene(seed), title, turns)
    raise AssertionError("seeds never end")


def play(session: VideoSession, script: Script, max_new_tokens: int = 96) -> list[Outcome]:
    """Hold the conversation."""
    for name, region in script.regions.items():
        session.region(name, prompts=region.prompts)
    outcomes = []
    for line in script.lines:
        try:
            answer = session.ask(line.question, max_new_tokens=max_new_tokens)
        except RegionError as error:  # an earlier answer has no mask to point at
            outcomes.append(Outcome(line, failure=str(error)))
            continue
        frames = range(len(session.reader))
        found = [phrase.track.tube(frames) for phrase in answer.phrases]
        true = [script.scene.tracks[index].tube(frames) for index in line.targets]
        iou = mean_iou(found, true) if found or true else None
        outcomes.append(Outcome(line, iou))
    return outcomes


def _script(scene: Scene, title: str, turns: Sequence[GroundedTurn]) -> Script:
    rng = np.random.default_rng(scene.clip.seed)
    regions: dict[str, Region] = {}
    lines = []
    for turn in turns:
        question = turn.question
        for thing in turn.regions:
            name = NAMES[len(regions)]
            kind = POINTING[(scene.clip.seed + len(regions)) % len(POINTING)]
            regions[name] = scene.pointed(thing, kind, rng)
            question = question.replace(REGION_MARK, f"@{name}", 1)
        lines.append(Line(question, parse_answer(turn.answer).plain, turn.targets))
    place, thing = next(
        (number, turn.targets[0]) for number, turn in enumerate(turns, start=1) if turn.targets
    )
    name = scene.clip.things[thing].name()
    lines.append(Line(f"What is @{place}.1?", f"It is {ref.a(name)}."))
    return Script(title, scene, regions, tuple(lines))
