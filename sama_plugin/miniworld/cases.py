"""Held-out cases of the mini world: every case is a canonical Sample whose answers are references.

A clip gives expressions to ground, questions about things pointed at by mask, box or point, one
grounded conversation, plain questions and one question about something that is not there. Used by
`evaluate`; the demo and `sama eval mini` run the same cases.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Sequence

import numpy as np

from sama_plugin.data.formats import expressions as wording
from sama_plugin.dialog.sample import Media, Region, Sample, Target, Turn
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.miniworld.language import chat_turns, dialogues, expressions, region_questions
from sama_plugin.miniworld.render import render
from sama_plugin.miniworld.world import sample_clip

SPLIT = "heldout"
POINTINGS = ("mask", "box", "points")
QUESTIONS = ("what", "colour", "does", "history")
"""Region questions that are scored: what it is, its colour, what it does and what happens to it."""


@dataclass(frozen=True)
class Case:
    """One thing to ask. task: grounding, absent, region_qa, dialogue or chat; `kind` is finer."""

    task: str
    kind: str
    sample: Sample


@dataclass(frozen=True)
class ClipCases:
    """A held-out clip with its cases. frames: uint8 (T, H, W, 3)."""

    seed: int
    frames: np.ndarray
    cases: tuple[Case, ...]
    tracks: tuple[MaskTrack, ...]


def clip_cases(seed: int, per_task: int = 5) -> ClipCases:
    """All cases of the held-out clip `seed`, at most `per_task` of each task; always the same."""
    clip = sample_clip(seed, SPLIT)
    frames, visible = render(clip)
    rng = np.random.default_rng([seed, 77])
    tracks = [MaskTrack.from_masks(visible == index + 1) for index in range(len(clip.things))]
    cases: list[Case] = []
    grounded = [one for one in expressions(clip, rng) if one.kind != "absent"]
    for one in _spread(grounded, per_task):
        target = _union([tracks[index] for index in one.things])
        kind = f"{one.kind} look-alike" if one.look_alike else one.kind
        cases.append(_case("grounding", kind, seed, [wording.turn(one.text, target)]))
    for text in _absent(clip, rng, max(1, per_task // 2)):
        cases.append(_case("absent", "absent", seed, [Turn(wording.ask(text), None)]))
    questions = [one for one in region_questions(clip, rng) if one.kind in QUESTIONS]
    for number, one in enumerate(questions[:per_task]):
        how = POINTINGS[(seed + number) % len(POINTINGS)]
        regions = tuple(_point(tracks[index], how, rng) for index in one.things)
        cases.append(
            _case(
                "region_qa", f"{one.kind} by {how}", seed, [Turn(one.question, one.answer, regions)]
            )
        )
    cases.append(
        _case(
            "dialogue",
            "dialogue",
            seed,
            [_grounded_turn(turn, tracks, rng) for turn in dialogues(clip, rng)],
        )
    )
    for turn in chat_turns(clip, rng, per_task):
        cases.append(_case("chat", turn.kind, seed, [Turn(turn.question, turn.answer)]))
    return ClipCases(seed, frames, tuple(cases), tuple(tracks))


def with_regions_of(case: Case, other: ClipCases) -> Case:
    """The case with its regions pointed where a thing of another clip was: the shuffled control."""
    donors = [
        region for one in other.cases if one.task == "region_qa" for region in one.sample.regions
    ]
    turns = []
    for turn in case.sample.turns:
        regions = tuple(
            donors[(other.seed + number) % len(donors)] for number, _ in enumerate(turn.regions)
        )
        turns.append(dataclasses.replace(turn, regions=regions))
    return dataclasses.replace(case, sample=dataclasses.replace(case.sample, turns=tuple(turns)))


def _case(task: str, kind: str, seed: int, turns: Sequence[Turn]) -> Case:
    return Case(
        task, kind, Sample(f"{task}-{seed}", Media("video", f"heldout-{seed}"), tuple(turns))
    )


def _spread(found: list, count: int) -> list:
    """At most `count`, those that need motion or history first: they are the rare ones."""
    telling = [one for one in found if one.look_alike]
    return (telling + [one for one in found if not one.look_alike])[:count]


def _absent(clip, rng: np.random.Generator, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        found += [one.text for one in expressions(clip, rng) if one.kind == "absent"]
    return found[:count]


def _union(tracks: Sequence[MaskTrack]) -> MaskTrack:
    return functools.reduce(MaskTrack.union, tracks)


def _point(track: MaskTrack, how: str, rng: np.random.Generator) -> Region:
    """A prompt on one of the frames where the thing shows at least half of its largest area."""
    areas = np.array([track.area(frame) for frame in range(track.total)])
    frame = int(rng.choice(np.flatnonzero(areas >= max(1, 0.5 * areas.max()))))
    mask = track.mask(frame)
    if how == "mask":
        prompt = RegionPrompt.from_mask(frame, mask)
    elif how == "box":
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        prompt = RegionPrompt.from_box(frame, tuple(map(float, box)))
    else:
        row, column = np.argwhere(mask)[int(rng.integers(mask.sum()))]
        prompt = RegionPrompt.from_points(frame, [(float(column) + 0.5, float(row) + 0.5)])
    return Region((prompt,))


def _grounded_turn(turn, tracks: Sequence[MaskTrack], rng: np.random.Generator) -> Turn:
    from sama_plugin.dialog.parse import parse_answer

    phrases = [
        phrase.text for phrase in parse_answer(turn.answer).phrases if phrase.seg_index is not None
    ]
    targets = tuple(Target(phrase, tracks[index]) for phrase, index in zip(phrases, turn.targets))
    regions = tuple(_point(tracks[index], "mask", rng) for index in turn.regions)
    return Turn(turn.question, turn.answer, regions, targets)
