"""A colour for every id: the same one in every frame, video, page and session.

The first twelve are chosen to be told apart on photographs and from each other; later ones walk
around the colour circle by the golden angle.
"""

from __future__ import annotations

import colorsys
import zlib
from typing import Union

Colour = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = (
    (255, 90, 95),  # coral
    (45, 156, 255),  # azure
    (255, 190, 40),  # amber
    (46, 204, 135),  # jade
    (178, 108, 255),  # violet
    (255, 130, 45),  # tangerine
    (0, 206, 209),  # turquoise
    (255, 105, 190),  # pink
    (170, 220, 50),  # lime
    (110, 120, 255),  # indigo
    (225, 170, 120),  # sand
    (150, 230, 255),  # ice
)

_GOLDEN_ANGLE = 0.6180339887498949


def colour_of(identity: Union[int, str]) -> Colour:
    """(red, green, blue), 0..255, of an id; the same for the same id in every process."""
    if isinstance(identity, str):
        number = zlib.crc32(identity.encode("utf-8")) % 10_000 + len(PALETTE)
    else:
        number = int(identity)
    if 0 <= number < len(PALETTE):
        return PALETTE[number]
    hue = (number * _GOLDEN_ANGLE) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 + 0.2 * (number % 3) / 2, 0.98)
    return round(255 * red), round(255 * green), round(255 * blue)


def hex_of(identity: Union[int, str]) -> str:
    """The colour of an id as "#rrggbb", for pages."""
    red, green, blue = colour_of(identity)
    return f"#{red:02x}{green:02x}{blue:02x}"


def ink_on(colour: Colour) -> Colour:
    """Near black or white, whichever is read better on `colour`."""
    red, green, blue = colour
    return (20, 22, 28) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
