"""Masks with 64 pixels in a number: outlines, dilations and counts of many frames at once.

A mask (T, H, W) becomes uint64 (T, H, W // 64 + 1); bit x % 64 of number x // 64 is pixel x of a
row. A shift then moves 64 pixels at a time, which makes J and F of the DAVIS protocol many times
faster than pictures of bytes, to the same bit. Used by `similarity`.
"""

from __future__ import annotations

import sys

import numpy as np

BITS = 64
_COUNTS = np.array([bin(number).count("1") for number in range(1 << 16)], np.uint8)


def pack(masks: np.ndarray) -> np.ndarray:
    """uint64 (T, H, W // 64 + 1) of bool (T, H, W); bits beyond the last pixel are 0."""
    frames, height, width = masks.shape
    found = np.packbits(masks.astype(bool, copy=False), axis=2, bitorder="little")
    words = np.zeros((frames, height, (width // BITS + 1) * 8), np.uint8)
    words[:, :, : found.shape[2]] = found
    words = words.view(np.uint64)
    return words if sys.byteorder == "little" else words.byteswap()


def unpack(words: np.ndarray, width: int) -> np.ndarray:
    """Inverse of `pack`."""
    words = words if sys.byteorder == "little" else words.byteswap()
    pixels = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=2, bitorder="little")
    return pixels[:, :, :width].astype(bool)


def count(words: np.ndarray) -> np.ndarray:
    """(T,) set pixels of each frame."""
    if not words.size:
        return np.zeros(len(words), np.int64)
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words).sum((1, 2), dtype=np.int64)
    return _COUNTS[np.ascontiguousarray(words).view(np.uint16)].sum((1, 2), dtype=np.int64)


def occupied(words: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and numbers of a row outside of which no pixel is set, with `margin` pixels around."""
    rows = np.flatnonzero(words.any((0, 2)))
    columns = np.flatnonzero(words.any((0, 1)))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    aside = -(-margin // BITS)
    return (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - aside), columns[-1] + aside + 1),
    )


def outline(words: np.ndarray, last: int) -> np.ndarray:
    """Pixels that differ from their right, lower or lower-right neighbour.

    In the last column only the lower neighbour counts, in the last row only the right one.

    Args:
        words: (T, h, w), a part whose last row and number are those of the picture or empty.
        last: place of the picture's last pixel in a row of the part; none lies there if it is not
            inside.
    """
    number, bit = divmod(last, BITS)
    wider = words
    if 0 <= number < words.shape[2]:  # pixel `last + 1` repeats pixel `last`
        wider = words.copy()
        edge = (words[:, :, number] >> np.uint64(bit)) & np.uint64(1)
        number, bit = divmod(last + 1, BITS)
        if number < words.shape[2]:
            wider[:, :, number] |= edge << np.uint64(bit)
    right = _from_right(wider, 1)
    edges = words ^ right
    edges[:, :-1] |= words[:, :-1] ^ words[:, 1:]
    edges[:, :-1] |= words[:, :-1] ^ right[:, 1:]
    return edges


def dilate(words: np.ndarray, radius: int) -> np.ndarray:
    """Dilation by the disk x^2 + y^2 <= radius^2: every row of the disk is the one before it,
    grown to both sides, and is laid over the picture above and below.
    """
    height, row, reach = words.shape[1], words, 0
    grown = np.zeros_like(words)
    for shift in range(radius, -1, -1):
        wanted = int(np.sqrt(radius * radius - shift * shift))
        row, reach = _spread(row, reach, wanted), wanted
        if shift < height:
            grown[:, shift:] |= row[:, : height - shift]
            grown[:, : height - shift] |= row[:, shift:]
    return grown


def _spread(words: np.ndarray, reach: int, wanted: int) -> np.ndarray:
    """Pixels that were grown by `reach` to both sides, grown by `wanted`."""
    while reach < wanted:
        step = min(2 * reach + 1, wanted - reach, BITS - 1)
        words = words | _from_right(words, step) | _from_left(words, step)
        reach += step
    return words


def _from_right(words: np.ndarray, step: int) -> np.ndarray:
    """Pixel x is what pixel x + step was."""
    moved = words >> np.uint64(step)
    moved[:, :, :-1] |= words[:, :, 1:] << np.uint64(BITS - step)
    return moved


def _from_left(words: np.ndarray, step: int) -> np.ndarray:
    """Pixel x is what pixel x - step was."""
    moved = words << np.uint64(step)
    moved[:, :, 1:] |= words[:, :, :-1] >> np.uint64(BITS - step)
    return moved
