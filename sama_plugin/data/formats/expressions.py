"""Referring expressions as turns: how the field asks for a mask, and how a model answers.

Shared by every expression dataset and by the grounding benchmarks. The wording varies with the
expression, not with a random state, so the same file gives the same samples everywhere.
"""

from __future__ import annotations

import zlib
from typing import Optional, Sequence

from sama_plugin.dialog.sample import Target, Turn
from sama_plugin.dialog.tokens import SEG
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
