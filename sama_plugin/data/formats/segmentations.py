"""The spellings of a mask in annotation files, as one RLE or None.

A segmentation is a compressed RLE, an RLE with a list of counts, a list of polygons, or null; a
mask-dictionary entry may also be a list of RLEs whose union is meant. Masks stay RLE: nothing here
allocates pixels except for polygons, unions and resizing.
"""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

import numpy as np

from sama_plugin.data.report import RecordReport
from sama_plugin.errors import DataError, SamaError
from sama_plugin.media import masks

RLE = Mapping[str, Any]
LARGEST_SIDE = 16384
"""No frame is larger; an RLE that claims to be is refused before it is decoded."""


def read_segmentation(entry: Any, size: Optional[tuple[int, int]] = None) -> Optional[RLE]:
    """One RLE, or None where the object is absent.

    Args:
        entry: RLE, list of RLEs (their union), list of polygons, or None.
        size: (height, width) of the frame; polygons need it, an RLE must have it.

    Raises:
        DataError: `size_mismatch`, `polygon_without_size` or `bad_segmentation`.
    """
    if entry is None or entry == []:
        return None
    if isinstance(entry, Mapping):
        rle = _checked(entry, size)
    elif isinstance(entry, Sequence) and all(isinstance(part, Mapping) for part in entry):
        rle = masks.merge([_checked(part, size) for part in entry])
    elif isinstance(entry, Sequence) and all(isinstance(part, Sequence) for part in entry):
        rle = _from_polygons(entry, size)
    else:
        raise DataError(
            "unknown kind of segmentation",
            found=type(entry).__name__,
            expected="an RLE, a list of RLEs, a list of polygons, or null",
            reason="bad_segmentation",
        )
    return rle if masks.area(rle) else None


def note_unsized(
    entry: Any, stated: Optional[tuple[int, int]], report: RecordReport, where: str
) -> None:
    """Notes polygons whose record does not say the frame's size; the medium's own is taken."""
    if stated is None and isinstance(entry, list) and any(isinstance(part, list) for part in entry):
        message = "polygons without height and width; those of the medium are taken"
        report.note(DataError(message, reason="polygon_without_size"), where)


def resize_nearest(rle: RLE, size: tuple[int, int]) -> RLE:
    """The mask at another frame size, by the nearest pixel (centres map to centres)."""
    if tuple(rle["size"]) == tuple(size):
        return rle
    mask = masks.decode(rle)
    rows = ((np.arange(size[0]) + 0.5) * mask.shape[0] / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * mask.shape[1] / size[1]).astype(int)
    return masks.encode(mask[rows[:, None], columns])


def _checked(rle: RLE, size: Optional[tuple[int, int]]) -> RLE:
    found = rle.get("size")
    plain = isinstance(found, Sequence) and len(found) == 2
    if not plain or "counts" not in rle or not all(type(side) is int for side in found):
        raise DataError(
            "an RLE needs size and counts",
            found=sorted(rle),
            expected="size [height, width] and counts",
            reason="bad_segmentation",
        )
    if not all(0 < side <= LARGEST_SIDE for side in found):
        raise DataError(
            "the RLE has an impossible size", found=tuple(found), reason="bad_segmentation"
        )
    if size is not None and tuple(found) != tuple(size):
        raise DataError(
            "the RLE size differs from the frame size",
            found=tuple(found),
            expected=tuple(size),
            reason="size_mismatch",
        )
    try:
        masks.area(rle)
        return rle if isinstance(rle["counts"], str) else masks.encode(masks.decode(rle))
    except (SamaError, ValueError) as error:
        raise DataError(f"a damaged RLE: {error}", reason="bad_segmentation") from error


def _from_polygons(polygons: Any, size: Optional[tuple[int, int]]) -> RLE:
    if size is None:
        raise DataError("polygons need the frame's height and width", reason="polygon_without_size")
    try:
        return masks.from_polygons(polygons, size[0], size[1])
    except (SamaError, ValueError, TypeError) as error:
        raise DataError(f"damaged polygons: {error}", reason="bad_segmentation") from error
