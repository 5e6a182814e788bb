"""Small labels with rounded corners, drawn three times as large and reduced, so that they are
smooth.

Used by `draw` for phrases and region names and by `sheet` for frame labels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Optional

from PIL import Image, ImageDraw, ImageFont

from sama_plugin.viz.colours import Colour, ink_on

_FINER = 3
_LONGEST = 48  # letters


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The truetype font that Pillow brings, at a size in pixels."""
    return ImageFont.load_default(size)


@lru_cache(maxsize=512)
def tag(text: str, colour: Colour, size: int, badge: Optional[str] = None) -> Image.Image:
    """A label, RGBA: `text` on `colour`, with a darker `badge` (an id) before it.

    Args:
        size: height of the letters in pixels.
    """
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "\u2026"
    letters = font(size * _FINER)
    pad, height = round(0.5 * size * _FINER), round(1.65 * size * _FINER)
    badge_width = round(letters.getlength(badge)) + 2 * pad if badge else 0
    text_width = round(letters.getlength(text)) + 2 * pad if text else 0
    width = max(badge_width + text_width, 1)
    picture = Image.new("RGBA", (width, height), (*colour, 0))
    draw = ImageDraw.Draw(picture)
    radius = round(0.42 * size * _FINER)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), radius, fill=(*colour, 235))
    middle = height / 2 + 0.02 * height
    if badge:
        dark = tuple(round(0.62 * channel) for channel in colour)
        right = badge_width if text else width
        corners = (True, not text, not text, True)
        draw.rounded_rectangle(
            (0, 0, right - 1, height - 1), radius, fill=(*dark, 245), corners=corners
        )
        draw.text((right / 2, middle), badge, fill=(*ink_on(dark), 255), font=letters, anchor="mm")
    if text:
        left = badge_width + pad
        draw.text((left, middle), text, fill=(*ink_on(colour), 255), font=letters, anchor="lm")
    smaller = (-(-width // _FINER), -(-height // _FINER))
    return picture.resize(smaller, Image.Resampling.LANCZOS)
