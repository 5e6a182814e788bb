"""Region prompts: a mask, box, points or scribble on one frame.

A prompt is data (JSON, comparable) in float pixels of the upright source frame. It is checked
twice: its own shape when it is made, and against the clip by `validate`, before anything is
computed with it. `mask_array` says which pixels it means; the region encoder pools over those.
Several prompts make a `Region` (dialog/sample.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Sequence, Union

import numpy as np

from sama_plugin.errors import RegionError
from sama_plugin.media import rle as codec
from sama_plugin.media.rle import RLE

KINDS = ("mask", "box", "points", "scribble")

AUTO_RADIUS = 0.015
"""Radius of a point or half-width of a scribble, as a share of the frame's longer side, where none
is given.
"""

Point = tuple[float, float]


@dataclass(frozen=True)
class RegionPrompt:
    """Something pointed at on one frame; made by the `from_*` constructors.

    Attributes:
        kind: "mask", "box", "points" or "scribble".
        frame: index in the source, display order.
        mask: compressed RLE of the frame's size (kind "mask").
        box: (x0, y0, x1, y1), half open (kind "box").
        points: (x, y) each (kinds "points", "scribble": the corners of its line).
        labels: 1 = on the thing, 0 = not on it, one a point (kind "points").
        radius: pixels around a point, or half the width of a scribble; 0 = `AUTO_RADIUS` of the
            longer side.
    """

    kind: str
    frame: int
    mask: Optional[RLE] = field(default=None, hash=False)
    box: Optional[tuple[float, float, float, float]] = None
    points: Optional[tuple[Point, ...]] = None
    labels: Optional[tuple[int, ...]] = None
    radius: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RegionError(
                f"unknown kind of region prompt {self.kind!r}; known: {', '.join(KINDS)}"
            )
        content = self.points if self.kind == "scribble" else getattr(self, self.kind)
        if content is None:
            raise RegionError(f"a {self.kind} prompt on frame {self.frame} without its {self.kind}")

    @classmethod
    def from_mask(cls, frame: int, mask: Union[np.ndarray, Mapping[str, Any]]) -> RegionPrompt:
        """The foreground of a mask, bool (H, W) or RLE, of the frame's size."""
        if isinstance(mask, Mapping):
            size = list(codec.size_of(mask))
            packed = isinstance(mask["counts"], str)
            rle = {"size": size, "counts": mask["counts"]} if packed else codec.compress(mask)
            return cls("mask", _frame(frame), mask=rle)
        array = np.asarray(mask)
        if array.ndim != 2:
            raise RegionError(
                f"the mask on frame {frame} has shape {array.shape}; give (height, width) of the "
                "frame"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise RegionError(
                f"the mask on frame {frame} holds NaN or infinity; give true or false"
            )
        return cls("mask", _frame(frame), mask=codec.encode(array))

    @classmethod
    def from_box(cls, frame: int, xyxy: Sequence[float]) -> RegionPrompt:
        """A box (x0, y0, x1, y1) in pixels, x1 and y1 outside it."""
        (corners,) = _numbers([xyxy], 4, f"the box on frame {frame}", "(x0, y0, x1, y1)")
        return cls("box", _frame(frame), box=corners)

    @classmethod
    def from_points(
        cls,
        frame: int,
        xy: Sequence[Sequence[float]],
        labels: Optional[Sequence[int]] = None,
        radius: float = 0.0,
    ) -> RegionPrompt:
        """Clicks on the thing (label 1, the default) or beside it (label 0)."""
        points = _numbers(_points(xy), 2, f"a point on frame {frame}", "(x, y)")
        labels = tuple(
            int(label) for label in (labels if labels is not None else [1] * len(points))
        )
        if len(labels) != len(points) or not set(labels) <= {0, 1}:
            raise RegionError(
                f"points on frame {frame}: {len(points)} points with labels {labels}; give each "
                "point a 1 (on the thing) or a 0 (not on it)"
            )
        return cls("points", _frame(frame), points=points, labels=labels, radius=_radius(radius))

    @classmethod
    def from_scribble(
        cls, frame: int, xy: Sequence[Sequence[float]], width: float = 0.0
    ) -> RegionPrompt:
        """A line through points, `width` pixels wide."""
        points = _numbers(_points(xy), 2, f"the scribble on frame {frame}", "(x, y) points")
        return cls("scribble", _frame(frame), points=points, radius=_radius(width) / 2)

    def validate(self, height: int, width: int, total: int) -> RegionPrompt:
        """This prompt, after checking that it lies in a clip of `total` frames of height x width.

        Raises:
            RegionError: frame outside the clip; point or box outside the frame; box without area;
                scribble or clicks that touch nothing; mask empty or of another size.
        """
        if not 0 <= self.frame < total:
            raise RegionError(
                f"the {self.kind} is on frame {self.frame}, the clip has {total} frames (0 to "
                f"{total - 1})"
            )
        where = f"on frame {self.frame} ({width} x {height} pixels)"
        if self.mask is not None:
            self._check_mask(height, width, where)
        elif self.box is not None:
            self._check_box(height, width, where)
        else:
            self._check_points(height, width, where)
        return self

    def mask_array(self, height: int, width: int) -> np.ndarray:
        """The pixels that the prompt means, bool (H, W).

        The mask itself; the box filled (pixels whose centre is inside); discs around the points
        labelled 1 without those labelled 0; the scribble as a thick line. A valid prompt never
        means no pixel at all.
        """
        if self.mask is not None:
            if tuple(self.mask["size"]) != (height, width):
                self._check_mask(height, width, f"on frame {self.frame}")
            return codec.decode(self.mask)
        if self.box is not None:
            return _fill_box(self.box, height, width)
        radius = self.radius or max(1.0, AUTO_RADIUS * max(height, width))
        if self.kind == "scribble":
            return _thick_line(self.points, radius, height, width)
        labels = self.labels or (1,) * len(self.points)
        on = [point for point, label in zip(self.points, labels) if label]
        beside = [point for point, label in zip(self.points, labels) if not label]
        pixels = _discs(on, radius, height, width) & ~_discs(beside, radius, height, width)
        return pixels | _pixels_of(on, height, width)

    def to_json(self) -> dict[str, Any]:
        """Only the fields that say something."""
        record: dict[str, Any] = {"kind": self.kind, "frame": self.frame}
        for name in ("mask", "box", "points", "labels"):
            value = getattr(self, name)
            if value is not None:
                record[name] = value if name == "mask" else _lists(value)
        if self.radius:
            record["radius"] = self.radius
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> RegionPrompt:
        """Inverse of `to_json`; raises RegionError for a record that is none."""
        try:
            kind, frame, radius = record["kind"], record["frame"], record.get("radius", 0.0)
            if kind == "mask":
                return cls.from_mask(frame, record["mask"])
            if kind == "box":
                return cls.from_box(frame, record["box"])
            if kind == "points":
                return cls.from_points(frame, record["points"], record.get("labels"), radius)
            if kind == "scribble":
                return cls.from_scribble(frame, record["points"], 2 * radius)
        except (KeyError, TypeError) as error:
            raise RegionError(f"not a region prompt: {str(record)[:120]} ({error!r})") from error
        raise RegionError(f"unknown kind of region prompt {kind!r}; known: {', '.join(KINDS)}")

    def _check_mask(self, height: int, width: int, where: str) -> None:
        if tuple(self.mask["size"]) != (height, width):
            found = " x ".join(str(side) for side in reversed(self.mask["size"]))
            raise RegionError(
                f"the mask {where} has {found} pixels, the frame has {width} x {height}; resize "
                "the mask to the frame"
            )
        if not codec.area(self.mask):
            raise RegionError(f"the mask {where} is empty; a region needs at least one pixel")

    def _check_box(self, height: int, width: int, where: str) -> None:
        x0, y0, x1, y1 = self.box
        if x1 <= x0 or y1 <= y0:
            raise RegionError(
                f"the box {_lists(self.box)} {where} has no area; give (x0, y0, x1, y1) with x0 "
                "< x1 and y0 < y1"
            )
        if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
            inside = [max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)]
            overlaps = inside[0] < inside[2] and inside[1] < inside[3]
            advice = f"its part inside is {inside}" if overlaps else "no part of it is inside"
            raise RegionError(f"the box {_lists(self.box)} {where} leaves the frame; {advice}")

    def _check_points(self, height: int, width: int, where: str) -> None:
        if self.labels is not None and 1 not in self.labels:
            raise RegionError(
                f"the points {where} all say what it is not; add one on the thing (label 1)"
            )
        for x, y in self.points:
            if not (0 <= x < width and 0 <= y < height):
                raise RegionError(
                    f"({x:g}, {y:g}), of the {self.kind} {where}, is outside the frame"
                )


def _frame(frame: Any) -> int:
    try:
        number = int(frame)
    except (TypeError, ValueError, OverflowError):  # None, "first", infinity
        number = None
    if number is None or isinstance(frame, (bool, str)) or number != frame:
        raise RegionError(f"a frame is a whole number, not {frame!r}")
    return number


def _radius(radius: float) -> float:
    if not (np.isfinite(radius) and radius >= 0):
        raise RegionError(f"the width of a prompt cannot be {radius!r}")
    return float(radius)


def _points(xy: Any) -> Sequence[Any]:
    """One bare (x, y) is taken as a list of one."""
    if np.ndim(xy) == 1 and len(xy) == 2:
        return [xy]
    return xy


def _numbers(
    rows: Sequence[Any], columns: int, what: str, form: str
) -> tuple[tuple[float, ...], ...]:
    try:
        array = np.asarray(rows, dtype=float)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if (
        array.ndim != 2
        or array.shape[1] != columns
        or not len(array)
        or not np.isfinite(array).all()
    ):
        raise RegionError(f"{what}: {str(rows)[:80]} is not {form} in finite numbers")
    return tuple(tuple(row) for row in array.tolist())


def _lists(value: Any) -> Any:
    return [_lists(one) for one in value] if isinstance(value, tuple) else value


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres: y (H, 1) and x (1, W)."""
    return np.arange(height)[:, None] + 0.5, np.arange(width)[None] + 0.5


def _pixels_of(points: Sequence[Point], height: int, width: int) -> np.ndarray:
    """The pixels that contain the points."""
    pixels = np.zeros((height, width), dtype=bool)
    for x, y in points:
        pixels[min(int(y), height - 1), min(int(x), width - 1)] = True
    return pixels


def _fill_box(box: tuple[float, ...], height: int, width: int) -> np.ndarray:
    x0, y0, x1, y1 = box
    y, x = _grid(height, width)
    pixels = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    return pixels if pixels.any() else _pixels_of([((x0 + x1) / 2, (y0 + y1) / 2)], height, width)


def _discs(points: Sequence[Point], radius: float, height: int, width: int) -> np.ndarray:
    pixels = np.zeros((height, width), dtype=bool)
    y, x = _grid(height, width)
    for px, py in points:
        pixels |= (x - px) ** 2 + (y - py) ** 2 <= radius**2
    return pixels


def _thick_line(points: Sequence[Point], radius: float, height: int, width: int) -> np.ndarray:
    """Pixels whose centre is within `radius` of the line through the points."""
    pixels = _discs(points, radius, height, width) | _pixels_of(points, height, width)
    y, x = _grid(height, width)
    for (ax, ay), (bx, by) in zip(points, points[1:]):
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy
        if length:
            along = np.clip(((x - ax) * dx + (y - ay) * dy) / length, 0, 1)
            pixels |= (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2 <= radius**2
    return pixels
