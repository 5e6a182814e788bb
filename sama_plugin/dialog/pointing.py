"""Where the regions of a question stand in its text: at their mention, or in a list before it.

Ours, SAMA's and VideoRefer's models read a region where it is mentioned. Sa2VA's read a sentence
that lists all of them, "There are 2 part regions in the picture: region1<vp>...</vp>,
region2<vp>...</vp>.", and then a question that says region1. Used by `data/encode.py`.
"""

from __future__ import annotations

from typing import Callable, Sequence

from sama_plugin.dialog.spans import Segment, region
from sama_plugin.dialog.tokens import REGION_MARK

Pointing = Callable[[str, Sequence[int], bool], Sequence[Segment]]
"""(question with a mark at each region, slots of each, whether it touches what stands before it)
to segments."""


def inline(words: str, slots: Sequence[int], touching: bool) -> Sequence[Segment]:
    """Each region at its mark."""
    first, *rest = words.split(REGION_MARK)
    segments = [Segment("text", first)]
    for count, text in zip(slots, rest):
        segments += [*region(count), Segment("text", text)]
    return segments


def listed(words: str, slots: Sequence[int], touching: bool) -> Sequence[Segment]:
    """Sa2VA's list, on a line of its own, and the question with numbers at the marks.

    The list belongs to its question: a later one counts its own regions from 1.
    """
    if not slots:
        return [Segment("text", words)]
    opening = f"There are {len(slots)} part regions in the picture: "
    segments = [Segment("text", "\n" * touching + opening)]
    for number, count in enumerate(slots, start=1):
        between = ", " if number < len(slots) else ".\n"
        segments += [Segment("text", f"region{number}"), *region(count), Segment("text", between)]
    first, *rest = words.split(REGION_MARK)
    named = "".join(f"region{number}{text}" for number, text in enumerate(rest, start=1))
    return [*segments, Segment("text", first + named)]


def pointing_of(kind: str) -> Pointing:
    """How models with this kind of region encoder are pointed at things."""
    return {"sa2va": listed}.get(kind, inline)
