"""Contact sheets: many frames on one picture, each with its label. Used by pages, `sama data peek`
and the demo.
"""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np
from PIL import Image, ImageDraw

from sama_plugin.errors import DataError
from sama_plugin.viz.colours import Colour
from sama_plugin.viz.tags import font, tag

PAPER: Colour = (24, 26, 31)
_PLATE: Colour = (16, 18, 22)
_INK: Colour = (236, 238, 242)


def contact_sheet(
    frames: Sequence[np.ndarray],
    columns: int = 4,
    labels: Optional[Sequence[str]] = None,
    title: str = "",
    cell: int = 360,
) -> np.ndarray:
    """Frames in rows, left to right.

    Args:
        frames: pictures (H, W, 3) uint8 of one shape.
        columns: frames a row; fewer if there are fewer frames.
        labels: a few words under each frame's edge, e.g. "frame 37 \u00b7 1.24 s".
        title: a line above all.
        cell: width of a frame on the sheet, pixels.

    Returns:
        uint8 (H', W', 3).
    """
    frames = list(frames)
    if not frames or columns < 1:
        raise DataError(f"a contact sheet of {len(frames)} frames in {columns} columns cannot be")
    if labels is not None and len(labels) != len(frames):
        raise DataError(f"{len(frames)} frames with {len(labels)} labels", field="labels")
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    height = max(1, round(cell * frames[0].shape[0] / frames[0].shape[1]))
    gap = max(8, cell // 30)
    head = round(0.13 * cell) if title else 0
    size = (columns * (cell + gap) + gap, rows * (height + gap) + gap + head)
    sheet = Image.new("RGB", size, PAPER)
    if title:
        place, letters = (gap + 2, gap / 2 + head / 2), font(round(0.062 * cell))
        ImageDraw.Draw(sheet).text(place, title, fill=_INK, font=letters, anchor="lm")
    corners = _rounded(cell, height, radius=max(4, cell // 40))
    for number, frame in enumerate(frames):
        top = gap + head + number // columns * (height + gap)
        left = gap + number % columns * (cell + gap)
        picture = Image.fromarray(np.ascontiguousarray(frame))
        picture = picture.resize((cell, height), Image.Resampling.LANCZOS)
        if labels is not None and labels[number]:
            sticker = tag(labels[number], _PLATE, max(11, round(cell / 26)))
            edge = gap // 2 + 2
            picture.paste(sticker, (edge, height - sticker.height - edge), sticker)
        sheet.paste(picture, (left, top), corners)
    return np.array(sheet)


def _rounded(width: int, height: int, radius: int) -> Image.Image:
    """Opacity of a rectangle with round corners."""
    finer = 3
    picture = Image.new("L", (width * finer, height * finer), 0)
    edge = (0, 0, width * finer - 1, height * finer - 1)
    ImageDraw.Draw(picture).rounded_rectangle(edge, radius * finer, fill=255)
    return picture.resize((width, height), Image.Resampling.BOX)
