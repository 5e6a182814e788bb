"""Groups are followed thing by thing.

"The red things" is one [SEG] and one mask of several pieces, but a segmenter that was taught to
follow one thing loses the others. So where a mask on a prompted frame falls apart, each piece is
followed by itself, from the prompted frame it was seen on to half way to the next, and the pieces
of a frame are one mask again. A mask of one piece is followed as `propagate` does. Ours, not
SAM2's; on 30 held-out mini clips it lifts the J&F of groups from 0.66 to 0.76. Used by
`infer/grounding.py`.
"""

from __future__ import annotations

from typing import Iterator, Mapping, Optional, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sama_plugin.segment.base import Decoded, Segmenter
from sama_plugin.segment.following import (
    DEFAULT,
    Following,
    FrameResult,
    ObjectPrompt,
    TrackOptions,
)
from sama_plugin.segment.propagate import check_objects, propagate
from sama_plugin.segment.store import FeatureStore

SMALLEST = 0.1
"""Pieces below this share of the largest are crumbs of it and are not followed."""
CRUMB = 0.0007
"""So are those below this share of the frame: 12 pixels at 128 x 128."""
MOST = 16
"""Pieces of a mask that are followed, the largest first."""


@torch.no_grad()
def propagate_pieces(
    segmenter: Segmenter,
    store: FeatureStore,
    objects: Sequence[ObjectPrompt],
    total: int,
    *,
    options: TrackOptions = DEFAULT,
    mask_decoder: Optional[nn.Module] = None,
) -> Iterator[FrameResult]:
    """As `propagate`, with every prompted mask of several pieces followed piece by piece.

    The frames of a result may hold fewer objects than those of `propagate`, but every (object,
    frame) that is reached still comes exactly once. The result of a group has the logits of its
    pieces together, the best score and quality among them, and the pointer of that piece. Pieces
    count as objects of `options.most`; a group that does not fit any more is followed whole.

    Raises:
        RegionError: as `propagate`.
    """
    check_objects(objects, total, options)
    decoded = Following(segmenter, store, total, options, mask_decoder).decode(objects)
    followed: list[ObjectPrompt] = []
    owner: list[int] = []
    groups: dict[int, dict[int, Decoded]] = {}
    room = options.most - len(objects)
    for index, known in enumerate(decoded):
        parts = _split(known, segmenter.image_size, total)
        if 0 < len(parts) <= room + 1:
            groups[index] = known
            room -= len(parts) - 1
        else:
            parts = [ObjectPrompt(known)]
        followed += parts
        owner += [index] * len(parts)
    for result in propagate(segmenter, store, followed, total, options=options):
        yield _together(result, owner, groups)


def _split(known: dict[int, Decoded], size: int, total: int) -> list[ObjectPrompt]:
    """The pieces of an object, each on its prompted frame and with its span; none if no mask has
    more than one.
    """
    there = {frame: one for frame, one in known.items() if float(one.score) > 0}
    every = {frame: pieces(_mask(one, size)) for frame, one in sorted(there.items())}
    found = {frame: masks for frame, masks in every.items() if masks}
    if all(len(masks) < 2 for masks in found.values()):
        return []
    parts = []
    for (frame, masks), span in zip(found.items(), spans(list(found), total)):
        for mask in masks:
            given = torch.from_numpy(mask)[None, None].to(there[frame].logits)
            parts.append(ObjectPrompt({frame: given}, span))
    return parts


def pieces(mask: np.ndarray) -> list[np.ndarray]:
    """Connected pieces of a bool mask (H, W), largest first, crumbs left out; a mask of crumbs
    alone gives its largest.
    """
    from scipy import ndimage

    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if not count:
        return []
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-areas, kind="stable")[:MOST]
    kept = [n for n in order if areas[n] >= max(SMALLEST * areas.max(), CRUMB * mask.size)]
    return [labels == n + 1 for n in kept or order[:1]]


def spans(frames: Sequence[int], total: int) -> list[tuple[int, int]]:
    """First and last frame nearest to each of ascending `frames`; ties go to the earlier."""
    ends = [(one + other) // 2 for one, other in zip(frames, frames[1:])] + [total - 1]
    starts = [0] + [end + 1 for end in ends[:-1]]
    return list(zip(starts, ends))


def _mask(decoded: Decoded, size: int) -> np.ndarray:
    wide = F.interpolate(decoded.logits.float(), (size, size), mode="bilinear", align_corners=False)
    return (wide[0, 0] > 0).cpu().numpy()


def _together(
    result: FrameResult, owner: Sequence[int], groups: Mapping[int, Mapping[int, Decoded]]
) -> FrameResult:
    """The pieces of each object as one; a group's prompted frames are as they were decoded."""
    rows: dict[int, list[int]] = {}
    for row, piece in enumerate(result.objects):
        rows.setdefault(owner[piece], []).append(row)
    parts = []
    for index, mine in rows.items():
        given = groups.get(index, {}).get(result.frame)
        parts.append(_joined(result, mine) if given is None else vars(given))

    def column(name: str) -> Tensor:
        return torch.cat([part[name].to(result.logits.dtype) for part in parts])

    return FrameResult(
        result.frame,
        tuple(rows),
        column("logits"),
        column("iou"),
        column("score"),
        column("pointer"),
        tuple(
            result.frame in groups[index] if index in groups else result.prompted[mine[0]]
            for index, mine in rows.items()
        ),
    )


def _joined(result: FrameResult, mine: list[int]) -> dict[str, Tensor]:
    """One row: the logits of all, the rest of the piece that is there most surely."""
    best = mine[int(result.score[mine].argmax())]
    rest = {name: getattr(result, name)[best : best + 1] for name in ("iou", "score", "pointer")}
    return {"logits": result.logits[mine].amax(0, keepdim=True), **rest}
