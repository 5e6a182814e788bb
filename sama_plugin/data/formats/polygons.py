"""Polygons drawn on images, as LabelMe saves them: one JSON file a picture.

`shapes` are polygons, rectangles or circles with a `label`; shapes of one label and `group_id`
are one object. `path` is one file or a folder of them. Lines and points have no pixels and are
dropped.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional

from sama_plugin.data.formats import expressions, files
from sama_plugin.data.formats.image_expressions import image_samples, image_track
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict
from sama_plugin.dialog.sample import Media, Sample
from sama_plugin.errors import DataError

CORNERS_OF_A_CIRCLE = 64


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    turns_per_sample: int = 5,
) -> Iterator[Sample]:
    """Samples of one file or folder; `root` is the image folder; see `data.formats.Format`."""
    report, library, given = report or Strict(), Library(root, probe), Path(path)
    for file in sorted(given.rglob("*.json")) if given.is_dir() else [given]:
        local = RecordReport(report, str(file), file.stem)
        try:
            record = files.load_json(file)
            media = Media("image", _image(record, file, library))
            size = library.size(media.source)
            _check_size(record, size)
            turns = expressions.objects(_objects(record["shapes"], size, local))
        except MALFORMED as error:
            local.drop(error)
            continue
        named = [(f"{file.stem}#{number}", turn) for number, turn in enumerate(turns)]
        yield from image_samples(media, named, turns_per_sample, str(file))


def _objects(shapes: Any, size: tuple[int, int], local: RecordReport) -> list:
    """(label, track) of every object."""
    rings: dict[tuple[str, Any], list] = {}
    for number, shape in enumerate(shapes):
        try:
            ring = _ring(shape)
        except MALFORMED as error:
            local.drop(error, f"shapes[{number}]")
            continue
        group = shape.get("group_id")
        key = (str(shape["label"]).strip(), number if group is None else f"group {group}")
        rings.setdefault(key, []).append(ring)
    found = []
    for (label, group), polygons in rings.items():
        try:
            track = image_track(polygons, size)
            if track is None:
                raise DataError("nothing is drawn", reason="all_masks_absent")
            found.append((label, track))
        except MALFORMED as error:
            local.drop(error, f"shapes {label!r} {group}")
    return found


def _ring(shape: Mapping[str, Any]) -> list[float]:
    """The shape's outline as x, y, x, y ..."""
    kind, points = shape.get("shape_type", "polygon"), shape["points"]
    if kind == "rectangle":
        (left, top), (right, bottom) = points
        points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    elif kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        angles = (2 * math.pi * i / CORNERS_OF_A_CIRCLE for i in range(CORNERS_OF_A_CIRCLE))
        points = [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]
    elif kind != "polygon":
        raise DataError(
            "the shape has no pixels",
            found=kind,
            expected="polygon, rectangle or circle",
            reason="bad_segmentation",
        )
    return [float(value) for point in points for value in point]


def _image(record: Mapping[str, Any], file: Path, library: Library) -> str:
    """The picture, which LabelMe names from the JSON file's own folder."""
    name = record.get("imagePath")
    if isinstance(name, str):
        name = name.replace("\\", "/")
        try:
            return library.find(name, field="imagePath")
        except DataError as error:
            if error.reason not in ("missing_media", "path_outside_root"):
                raise
    beside = [found for found in file.parent.glob(f"{file.stem}.*") if found.suffix != ".json"]
    inside = [found for found in beside if library.root in found.absolute().parents]
    return library.find(str(inside[0].absolute()) if inside else name, field="imagePath")


def _check_size(record: Mapping[str, Any], size: tuple[int, int]) -> None:
    stated = (record.get("imageHeight"), record.get("imageWidth"))
    if None not in stated and stated != size:
        raise DataError(
            "the stated size differs from the picture's",
            field="imageHeight",
            found=stated,
            expected=size,
            reason="size_mismatch",
        )
