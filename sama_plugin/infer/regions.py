"""Names for things in a conversation: "@dog" for what the user pointed at, "@1.2" for an earlier
answer's mask.

A question mentions names; the model reads a region at each mention. Used by `session.py`.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Optional, Sequence

import numpy as np

from sama_plugin.dialog.sample import Region
from sama_plugin.dialog.tokens import REGION_MARK, check_user_text
from sama_plugin.errors import RegionError
from sama_plugin.media.frames import FramePlan
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.registry import nearest

MENTION = re.compile(r"(?<!\w)@([A-Za-z_]\w*|\d+\.\d+)")
"""A region's name, or "turn.phrase" for the mask of an earlier answer. "a@b.c" mentions nothing."""

_NAME = re.compile(r"[A-Za-z_]\w*")
LONGEST_NAME = 64
"""Letters of a name, which is also the name of its picture's file."""

_KINDS = ("mask", "box", "points", "scribble")


def check_name(name: str, taken: Sequence[str]) -> None:
    """Refuse a name that could not be mentioned or that means something else already."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise RegionError(
            f"{name!r} cannot be mentioned as @{name}; a region's name is a letter followed by "
            f"letters, digits or '_', {LONGEST_NAME} at most"
        )
    if name in taken:
        raise RegionError(
            f"region {name!r} is named twice; give the second one another name, or pass all "
            "prompts of one thing at once: session.region(name, prompts=[...])"
        )


def make_prompt(
    frame: int,
    *,
    mask: Any = None,
    box: Optional[Sequence[float]] = None,
    points: Optional[Sequence[Sequence[float]]] = None,
    scribble: Optional[Sequence[Sequence[float]]] = None,
    width: Optional[float] = None,
) -> RegionPrompt:
    """One prompt on one frame from exactly one of mask (bool (H, W) or RLE), box, points,
    scribble.
    """
    given = [
        name for name, value in zip(_KINDS, (mask, box, points, scribble)) if value is not None
    ]
    if len(given) != 1:
        raise RegionError(
            f"a prompt is one of {', '.join(_KINDS)}; given: {', '.join(given) or 'none'}. "
            "Several prompts of one thing go into session.region(name, prompts=[RegionPrompt...])"
        )
    if mask is not None:
        return RegionPrompt.from_mask(frame, mask)
    if box is not None:
        return RegionPrompt.from_box(frame, box)
    if points is not None:
        return RegionPrompt.from_points(frame, points)
    if width is None:
        return RegionPrompt.from_scribble(frame, scribble)
    return RegionPrompt.from_scribble(frame, scribble, width)


def read_mentions(
    text: str, find: Callable[[str], Region], known: Sequence[str]
) -> tuple[str, tuple[Region, ...]]:
    """The question as a `Sample` words it (a mark at each mention), and the regions, in text order.

    Args:
        find: region of a name; raises KeyError for an unknown one.
        known: all names, for the error message.

    Raises:
        RegionError: an unknown name, or a placeholder typed by the user.
    """
    check_user_text(text)
    regions = []
    for name in MENTION.findall(text):
        try:
            regions.append(find(name))
        except KeyError:
            raise RegionError(
                f"the question mentions @{name}, which is not named{nearest(name, known)}; known: "
                f"{', '.join('@' + one for one in known) or 'nothing yet'}. {_first(name)}"
            ) from None
    return MENTION.sub(REGION_MARK, text), tuple(regions)


def region_of_track(name: str, track: MaskTrack, plan: FramePlan) -> Region:
    """What the model reads of an earlier mask: the frames of the plan on which the thing is
    visible.

    Where it is visible on none of them, the frame with its largest mask is added. A track without
    any mask gives a region without prompts, which the region encoder reads as "absent".
    """
    visible = track.visible()
    frames = [frame for frame in plan.rows if frame in visible]
    if not frames and visible:
        frames = [max(visible, key=track.area)]
    prompts = tuple(RegionPrompt.from_mask(frame, track.rles[frame]) for frame in frames)
    return Region(prompts, name)


def visibility(track: Optional[MaskTrack], parts: int = 48) -> tuple[float, ...]:
    """Share of the frame that the mask covers, largest in each of (at most) `parts` equal parts of
    the clip.
    """
    if track is None:
        return ()
    height, width = track.size
    edges = np.linspace(0, track.total, min(parts, track.total) + 1).astype(int)
    areas = np.array([track.area(frame) or 0 for frame in range(track.total)], dtype=float)
    return tuple(float(areas[a:b].max() / (height * width)) for a, b in zip(edges, edges[1:]))


def _first(name: str) -> str:
    """What to do before `name` can be mentioned."""
    if name[0].isdigit():
        turn, _, phrase = name.partition(".")
        return f"@{name} would be mask {phrase} of answer {turn}: it has no such mask"
    return (
        f"Name it first: session.region({name!r}, frame=..., box=...), or in sama chat "
        f"{name}@FRAME:box=x0,y0,x1,y1 after --region or /region"
    )
