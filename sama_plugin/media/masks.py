"""Masks as arrays: RLE and polygons in and out, PNG files, boxes, and exact resizing to feature
grids.

The one import for whoever handles masks; the codecs live in `rle` and `polygons`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

import numpy as np
from PIL import Image, UnidentifiedImageError

from sama_plugin.atomic import atomic_path
from sama_plugin.errors import DataError, MediaError
from sama_plugin.media.polygons import from_polygons, to_polygons
from sama_plugin.media.rle import (
    RLE,
    area,
    compress,
    decode,
    encode,
    intersect,
    merge,
    run_lengths,
)

__all__ = [
    "RLE",
    "area",
    "box_of",
    "compress",
    "decode",
    "encode",
    "from_polygons",
    "index_palette",
    "intersect",
    "merge",
    "read_png",
    "resize_area",
    "run_lengths",
    "to_polygons",
    "write_png",
]


def box_of(mask: np.ndarray) -> Optional[tuple[int, int, int, int]]:
    """Smallest box (x0, y0, x1, y1), half open, around the foreground of a mask (H, W); None if it
    is empty.
    """
    rows = np.flatnonzero(np.asarray(mask).any(axis=1))
    columns = np.flatnonzero(np.asarray(mask).any(axis=0))
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def resize_area(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Exact area averaging to another grid, finer or coarser, of any ratio.

    Args:
        mask: (H, W), bool or real numbers.

    Returns:
        float32 (height, width): the mean of the mask over the part of the frame that each cell
        covers. A mask of one pixel therefore never vanishes, and the mean over all cells is the
        mean of the mask.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or 0 in mask.shape or height < 1 or width < 1:
        raise DataError(
            "cannot average this mask over this grid",
            found=f"mask {mask.shape}, grid {(height, width)}",
            expected="a mask (H, W) and a grid, all sides at least 1",
        )
    exact = np.int64 if mask.dtype.kind in "bui" else np.float64  # whole sums until the division
    sums = _sum_bins(_sum_bins(mask.astype(exact), height).T, width).T  # (height, width)
    return (sums / (mask.shape[0] * mask.shape[1])).astype(np.float32)


def read_png(path: Union[str, Path]) -> np.ndarray:
    """Labels, uint8 (H, W), of a mask picture.

    A palette picture gives its indices (DAVIS, YouTube-VOS object ids). A grey picture gives its
    values, except that one of only 0 and 255 is binary and gives 0 and 1. A colour picture must be
    grey in fact.

    Raises:
        MediaError: missing, not a picture, or one whose pixels are not labels.
    """
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            pixels = np.asarray(picture)
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise MediaError(f"cannot read mask {path}: {error}") from error
    if mode in ("RGB", "RGBA") and (pixels[..., :3] == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim != 2 or pixels.max() > 255:
        raise MediaError(
            f"cannot read mask {path}: its mode is {mode} and its pixels are not labels 0..255; "
            "save it as a palette or 8-bit grey PNG"
        )
    labels = pixels.astype(np.uint8)
    if mode != "P" and labels.max() == 255 and not ((labels > 0) & (labels < 255)).any():
        labels = labels // 255
    return labels


def write_png(path: Union[str, Path], labels: np.ndarray) -> None:
    """Write labels (H, W): bool as a 0/255 grey PNG, numbers 0..255 as a palette PNG in the DAVIS
    colours.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or 0 in labels.shape or labels.min() < 0 or labels.max() > 255:
        raise DataError(
            "not labels", found=f"{labels.shape} {labels.dtype}", expected="(H, W) of 0..255"
        )
    if labels.dtype == bool:
        picture = Image.fromarray(labels.astype(np.uint8) * 255)
    else:
        picture = Image.fromarray(labels.astype(np.uint8))
        picture.putpalette(index_palette().ravel().tolist())
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def index_palette() -> np.ndarray:
    """The 256 colours, uint8 (256, 3), that PASCAL VOC and DAVIS give to object ids: id bits dealt
    to R, G and B.
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for channel in range(3):
        for digit in range(8):
            bit = (ids >> (3 * digit + channel)) & 1 if 3 * digit + channel < 8 else 0
            colours[:, channel] |= np.asarray(bit << (7 - digit), dtype=np.uint8)
    return colours


def _sum_bins(values: np.ndarray, bins: int) -> np.ndarray:
    """Sums over `bins` equal parts of the first axis, times `bins` (so that whole numbers stay
    whole); (bins, ...).

    The running sum is a piecewise linear function; a bin is its difference at the bin's two edges.
    """
    length = len(values)
    edges = np.arange(bins + 1, dtype=np.int64) * length
    whole, part = edges // bins, edges % bins
    running = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    inside = values[np.minimum(whole, length - 1)] * part[:, None]
    return np.diff(running[whole] * bins + inside, axis=0)
