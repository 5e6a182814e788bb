"""Frames with what was pointed at and what was found.

A mask is a soft fill with a crisp outline and a label (id and phrase) above it; a region prompt is
an outline without fill, so that question and answer are told apart. Small frames are enlarged
first, so that one-pixel objects and words can be seen. Used by the page, the command line and the
demo.
"""

from __future__ import annotations

from typing import Iterable, Iterator, Mapping, Optional, Sequence, Union

import numpy as np
from PIL import Image

from sama_plugin.errors import DataError
from sama_plugin.media.masks import box_of
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.viz.colours import Colour, colour_of
from sama_plugin.viz.pointing import draw_prompt
from sama_plugin.viz.sheet import contact_sheet
from sama_plugin.viz.tags import tag

__all__ = ["contact_sheet", "draw_frames", "enlargement", "overlay"]

LEAST_SIDE = 480
"""Frames whose shorter side is below this are enlarged by a whole factor."""

MOST_SIDE = 4096
"""No enlargement makes the longer side longer: encoders end at 16384, and memory before that."""

_FILL, _RIM = 0.42, 0.55

Identity = Union[int, str]
Box = tuple[int, int, int, int]


def overlay(
    frames: np.ndarray,
    tracks: Sequence[Optional[MaskTrack]] = (),
    labels: Sequence[str] = (),
    ids: Sequence[Identity] = (),
    *,
    indices: Optional[Sequence[int]] = None,
    prompts: Optional[Mapping[str, Sequence[RegionPrompt]]] = None,
    least_side: int = LEAST_SIDE,
) -> np.ndarray:
    """Frames with masks, labels and region prompts drawn on them; `draw_frames`, collected.

    Returns:
        uint8 (N, H * k, W * k, 3), k being `enlargement`.
    """
    frames = np.asarray(frames)
    if not len(frames):
        return frames
    drawn = draw_frames(
        frames, tracks, labels, ids, indices=indices, prompts=prompts, least_side=least_side
    )
    return np.stack(list(drawn))


def draw_frames(
    frames: Iterable[np.ndarray],
    tracks: Sequence[Optional[MaskTrack]] = (),
    labels: Sequence[str] = (),
    ids: Sequence[Identity] = (),
    *,
    indices: Optional[Sequence[int]] = None,
    prompts: Optional[Mapping[str, Sequence[RegionPrompt]]] = None,
    colours: Sequence[Colour] = (),
    least_side: int = LEAST_SIDE,
) -> Iterator[np.ndarray]:
    """One drawn frame after the other, so that a long clip need not fit into memory.

    Args:
        frames: pictures (H, W, 3) uint8.
        tracks: one an object; None, an unknown frame and an empty mask draw nothing.
        labels: words of each track, its phrase.
        ids: id of each track, which decides its colour and is shown before its words; default:
            colours by position and no id shown.
        indices: source frame of each picture, by which tracks and prompts are looked up; default:
            0, 1, 2 ...
        prompts: region prompts by the name of their region.
        colours: colour of each track, where its id should not decide it.
        least_side: enlarge frames whose shorter side is below this; 0: never.
    """
    for name, given in (("labels", labels), ("ids", ids), ("colours", colours)):
        if given and len(given) != len(tracks):
            raise DataError(f"{len(tracks)} tracks with {len(given)} {name}", field=name)
    words = list(labels) or [""] * len(tracks)
    badges = [str(identity) for identity in ids] or [None] * len(tracks)
    colours = list(colours) or [colour_of(one) for one in (ids or range(len(tracks)))]
    objects = [one for one in zip(tracks, words, badges, colours) if one[0] is not None]
    for position, frame in enumerate(frames):
        index = position if indices is None else indices[position]
        masks = [(track.mask(index), *rest) for track, *rest in objects if track.area(index)]
        pointed = [
            (name, prompt)
            for name, several in (prompts or {}).items()
            for prompt in several
            if prompt.frame == index
        ]
        yield _draw(np.asarray(frame), masks, pointed, least_side)


def enlargement(height: int, width: int, least_side: int = LEAST_SIDE) -> int:
    """Whole factor that brings the shorter side of a frame to `least_side` or beyond, where the
    longer one stays within `MOST_SIDE`.
    """
    return max(1, min(-(-least_side // min(height, width)), MOST_SIDE // max(height, width)))


def _draw(frame: np.ndarray, masks: list, pointed: list, least_side: int) -> np.ndarray:
    """One frame: large masks first, then prompts, then labels, kept apart where there is room."""
    scale = enlargement(*frame.shape[:2], least_side)
    canvas = _enlarged(frame, scale)
    short = min(canvas.size)
    stroke, letters = max(2, round(short / 260)), max(13, round(short / 28))
    placed: list[Box] = []
    anchors = []
    for mask, words, badge, colour in sorted(masks, key=lambda one: -int(one[0].sum())):
        if mask.shape != frame.shape[:2]:
            raise DataError(
                "a mask has another size than its frame", found=mask.shape, expected=frame.shape[:2]
            )
        _paint_mask(canvas, mask, colour, scale, stroke)
        anchors.append((_scaled(_middle(mask), scale), words, badge, colour))
    for name, prompt in pointed:
        colour = colour_of(name)
        anchors.append((_paint_prompt(canvas, prompt, colour, scale, stroke), name, None, colour))
    for box, words, badge, colour in anchors:
        if words or badge:
            _place(canvas, tag(words, colour, letters, badge), box, placed)
    return np.array(canvas)


def _enlarged(frame: np.ndarray, scale: int) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(frame))
    larger = (picture.width * scale, picture.height * scale)
    return picture.resize(larger, Image.Resampling.BICUBIC) if scale > 1 else picture.copy()


def _scaled(box: Box, scale: int) -> Box:
    return tuple(side * scale for side in box)


def _middle(mask: np.ndarray) -> Box:
    """Box around the column of pixels that halves the mask: what its label points at."""
    weights = mask.sum(axis=0)
    column = int(np.searchsorted(np.cumsum(weights), (weights.sum() + 1) // 2))
    rows = np.flatnonzero(mask[:, column])
    return column, int(rows[0]), column + 1, int(rows[-1]) + 1


def _paint_mask(
    canvas: Image.Image,
    mask: np.ndarray,
    colour: Colour,
    scale: int,
    stroke: int,
    fill: float = _FILL,
) -> None:
    """Fill, dark rim and outline; works in the mask's surroundings only."""
    margin = -(-(stroke + 2) // scale) + 1
    x0, y0, x1, y1 = box_of(mask)
    y0, x0 = max(y0 - margin, 0), max(x0 - margin, 0)
    piece = Image.fromarray(mask[y0 : y1 + margin, x0 : x1 + margin].astype(np.uint8) * 255)
    if scale > 1:  # the enlarged edge is made as steep as an edge of one pixel
        larger = (piece.width * scale, piece.height * scale)
        piece = piece.resize(larger, Image.Resampling.BILINEAR)
        piece = piece.point([min(255, max(0, (i - 128) * scale + 128)) for i in range(256)])
    soft = np.asarray(piece)
    line = _grown(soft, stroke)
    rim = _grown(line, 1)
    corner = (x0 * scale, y0 * scale)
    layers = ((colour, soft, fill), ((0, 0, 0), rim - line, _RIM), (colour, line - soft, 1.0))
    for ink, alpha, share in layers:
        opacity = Image.fromarray(alpha).point([round(i * share) for i in range(256)])
        canvas.paste(ink, (*corner, corner[0] + piece.width, corner[1] + piece.height), opacity)


def _grown(soft: np.ndarray, radius: int) -> np.ndarray:
    """Soft mask, uint8 (h, w), grown by a disc."""
    height, width = soft.shape
    padded = np.pad(soft, radius)
    grown = soft.copy()
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dx * dx + dy * dy <= radius * radius + 1:
                shifted = padded[radius + dy :, radius + dx :][:height, :width]
                np.maximum(grown, shifted, out=grown)
    return grown


def _paint_prompt(
    canvas: Image.Image, prompt: RegionPrompt, colour: Colour, scale: int, stroke: int
) -> Box:
    """The prompt as it was given: contour, box, clicks or line. Returns its box on the canvas."""
    area = prompt.mask_array(canvas.height // scale, canvas.width // scale)
    if prompt.kind == "mask":
        _paint_mask(canvas, area, colour, scale, stroke, fill=0.0)
    else:
        draw_prompt(canvas, prompt, colour, scale, stroke)
    return _scaled(box_of(area), scale)


def _place(canvas: Image.Image, sticker: Image.Image, box: Box, placed: list[Box]) -> None:
    """Put a label above its object; where that is taken inside it, below it or anywhere free."""
    width, height = sticker.size
    x0, y0, x1, y1 = box
    gap = max(4, height // 4)
    left = int(np.clip((x0 + x1 - width) // 2, 2, max(2, canvas.width - width - 2)))
    lowest = max(2, canvas.height - height - 2)
    wishes = [y0 - gap - height, y0 + gap, y1 + gap, (y0 + y1 - height) // 2]
    wishes += list(range(2, lowest, height + 2))
    for top in wishes:
        spot = (left, top, left + width, top + height)
        if 2 <= top <= lowest and not any(_overlap(spot, other) for other in placed):
            break
    else:
        top = int(np.clip(wishes[0], 2, lowest))
        spot = (left, top, left + width, top + height)
    placed.append(spot)
    canvas.paste(sticker, spot[:2], sticker)


def _overlap(one: Box, two: Box) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
