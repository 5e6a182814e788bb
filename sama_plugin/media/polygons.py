"""Polygons to masks and back.

Rasterising is COCO's (pycocotools), so masks agree with every dataset. The way back traces pixel
edges, and cuts a mask with holes into pieces without, because a COCO polygon cannot have a hole:
`from_polygons(to_polygons(mask))` is `mask`. Used through `sama_plugin.media.masks`.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from sama_plugin.errors import DataError
from sama_plugin.media import rle as codec
from sama_plugin.media.rle import RLE

FARTHEST = 1e5
"""Pixels; the rasteriser's memory grows with the length of an edge, so coordinates beyond are
refused.
"""

_TURN_RIGHT = {(1, 0): (0, 1), (0, 1): (-1, 0), (-1, 0): (0, -1), (0, -1): (1, 0)}


def from_polygons(polygons: Sequence[Any], height: int, width: int) -> RLE:
    """Union of polygons as a compressed RLE.

    Args:
        polygons: each a flat list x0, y0, x1, y1, ... or an array (N, 2), in float pixels, N >= 3.

    Raises:
        DataError: no polygon, fewer than three points, or coordinates that are not finite numbers.
    """
    rings = [_ring(polygon, index) for index, polygon in enumerate(polygons)]
    if not rings:
        raise DataError("no polygon", field="polygons", expected="at least one")
    from pycocotools import mask as coco

    joined = coco.merge(coco.frPyObjects(rings, int(height), int(width)))
    return codec.encode(coco.decode(joined))


def to_polygons(mask: np.ndarray) -> list[list[float]]:
    """Polygons (flat lists of pixel-edge coordinates) whose union is exactly the mask (H, W)."""
    mask = np.asarray(mask) != 0
    polygons: list[list[float]] = []
    pieces = [(mask, 0)]
    while pieces:
        piece, left = pieces.pop()
        rings = _rings(piece)
        holes = [ring for ring in rings if _signed_area(ring) < 0]
        if holes:
            column = int(holes[0][:, 0].min()) + 1
            pieces += [(piece[:, column:], left + column), (piece[:, :column], left)]
            continue
        polygons += [(ring + (left, 0)).astype(float).ravel().tolist() for ring in rings]
    return polygons


def _ring(polygon: Any, index: int) -> list[float]:
    try:
        flat = np.asarray(polygon, dtype=float).ravel()
    except (TypeError, ValueError):
        flat = np.zeros(0)
    if (
        flat.size < 6
        or flat.size % 2
        or not np.isfinite(flat).all()
        or np.abs(flat).max() > FARTHEST
    ):
        raise DataError(
            "a polygon is unusable",
            field=f"polygons[{index}]",
            found=str(polygon)[:80],
            expected=f"x, y of three points or more, finite and within {FARTHEST:.0f} pixels",
            reason="bad_segmentation",
        )
    return flat.tolist()


def _signed_area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def _rings(mask: np.ndarray) -> list[np.ndarray]:
    """Closed pixel-edge paths with the foreground on their right, as corners (N, 2).

    Outer paths go clockwise on the screen and have a positive area, the rims of holes a negative
    one.
    """
    follow = _edges(mask)
    rings = []
    while follow:
        start = point = next(iter(follow))
        first = step = next(iter(follow[start]))
        path = []
        while True:
            path.append(point)
            follow[point].remove(step)
            if not follow[point]:
                del follow[point]
            point = (point[0] + step[0], point[1] + step[1])
            ahead = follow.get(point, set()) | ({first} if point == start else set())
            right = _TURN_RIGHT[step]  # where two pixels touch at a corner, stay on the same one
            step = right if right in ahead else next(iter(ahead))
            if point == start and step == first:
                break
        rings.append(_corners(np.array(path)))
    return rings


def _corners(path: np.ndarray) -> np.ndarray:
    """The points of a closed path at which it turns."""
    steps = np.roll(path, -1, axis=0) - path
    return path[(steps != np.roll(steps, 1, axis=0)).any(axis=1)]


def _edges(mask: np.ndarray) -> dict[tuple[int, int], set[tuple[int, int]]]:
    """From every corner point (x, y) the unit steps along pixel edges that have foreground on the
    right.
    """
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides = (
        (inside & ~padded[:-2, 1:-1], (0, 0), (1, 0)),  # top edge, walked to the right
        (inside & ~padded[1:-1, 2:], (1, 0), (0, 1)),  # right edge, down
        (inside & ~padded[2:, 1:-1], (1, 1), (-1, 0)),  # bottom edge, left
        (inside & ~padded[1:-1, :-2], (0, 1), (0, -1)),  # left edge, up
    )
    follow: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for where, (right, down), step in sides:
        for y, x in zip(*(axis.tolist() for axis in np.nonzero(where))):
            follow.setdefault((x + right, y + down), set()).add(step)
    return follow
