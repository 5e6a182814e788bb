"""Referring expressions as turns: how the field asks for a mask, and how a model answers.

Shared by every expression dataset and by the grounding benchmarks. The wording varies with the
expression, not with a random state, so the same file gives the same samples everywhere.
"""

from __future__ import annotations

import zlib
from typing import Optional, Sequence

from sama_plugin.dialog.sample import Region, Target, Turn
from sama_plugin.dialog.tokens import REGION_MARK, SEG
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack

ASK = (
    "Please segment {} in this video.",
    "Can you segment {}?",
    "Segment {}.",
    "Where is {}? Please show its mask.",
    "Find {} and give its segmentation mask.",
    "Please output the mask of {}.",
)
ANSWER = (
    f"Sure, it is {SEG}.",
    f"It is {SEG}.",
    f"Sure, {SEG}.",
    f"The segmentation result is {SEG}.",
    f"{SEG}.",
)


def ask(expression: str, template: Optional[str] = None) -> str:
    """The question for an expression; one that is already a question is asked as it stands."""
    expression = expression.strip()
    if expression.endswith("?"):
        return expression
    template = template or ASK[zlib.crc32(expression.encode()) % len(ASK)]
    return template.format(expression.rstrip(".").lower())


def turn(expression: str, track: Optional[MaskTrack], answered: bool = True) -> Turn:
    """A turn that asks for an expression; without `answered` it is a benchmark's open question."""
    if not answered:
        return Turn(ask(expression))
    answer = ANSWER[zlib.crc32(expression.encode()) % len(ANSWER)]
    return Turn(ask(expression), answer, targets=(Target(expression.strip(), track),))


def absent(expression: str) -> Turn:
    """A turn whose expression fits nothing: a plain sentence without [SEG]."""
    return Turn(ask(expression), f"There is no such thing here: {expression.strip().rstrip('.?')}.")


def instances(category: str, tracks: Sequence[Optional[MaskTrack]]) -> Turn:
    """A turn that asks for every instance of a category; one [SEG] and one target an instance."""
    marks = ", ".join(f"<p> {category} </p> {SEG}" for _ in tracks)
    targets = tuple(Target(category, track) for track in tracks)
    return Turn(f"Please segment every {category}.", f"{marks}.", targets=targets)


def pointed(name: str, track: MaskTrack) -> Turn:
    """A turn about an object that no words name: it is pointed at where it is first seen."""
    first = next(frame for frame in track.frames() if track.rles[frame] is not None)
    region = Region((RegionPrompt.from_mask(first, track.rles[first]),), name=name)
    ask = f"Segment {REGION_MARK} through the video."
    return Turn(ask, f"{SEG}.", (region,), (Target(name, track),))


def objects(tracks: Sequence[tuple[str, MaskTrack]]) -> list[Turn]:
    """Turns about named objects: one a name, with every instance; nameless ones are pointed at."""
    named: dict[str, list[Optional[MaskTrack]]] = {}
    for name, track in tracks:
        named.setdefault(name, []).append(track)
    turns = [instances(name, found) for name, found in named.items() if name]
    nameless = [track for name, track in tracks if not name]
    return turns + [pointed(f"object {number}", one) for number, one in enumerate(nameless, 1)]
