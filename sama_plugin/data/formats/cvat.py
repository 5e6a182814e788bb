"""CVAT for video 1.1 and for images 1.1: tracks and shapes in one XML file.

A video's tracks hold a polygon, a mask or a box a frame; `outside="1"` means known to be absent,
frames that a track does not mention are unknown. Labels become words. Boxes have no pixels of
their own and are filled only with `boxes=True`. Entity declarations are refused before anything is
expanded.
"""

from __future__ import annotations

from typing import Any, Iterator, Optional
from xml.etree import ElementTree

import numpy as np

from sama_plugin.data.formats import expressions, files
from sama_plugin.data.formats.image_expressions import image_samples
from sama_plugin.data.formats.segmentations import LARGEST_SIDE, read_segmentation
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict
from sama_plugin.dialog.sample import Media, Sample
from sama_plugin.errors import DataError
from sama_plugin.media import masks
from sama_plugin.media.masks import RLE
from sama_plugin.media.tracks import MaskTrack

SHAPES = ("polygon", "mask", "box", "ellipse")


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    video: Optional[str] = None,
    boxes: bool = False,
    turns_per_sample: int = 5,
) -> Iterator[Sample]:
    """Samples of an `annotations.xml`; see `data.formats.Format`.

    Args:
        root: folder of the video, or of the images.
        video: file or frame folder below `root`; default the task's `source`, or its name.
        boxes: read boxes as filled rectangles.
    """
    report, library = report or Strict(), Library(root, probe)
    tree = _parse(path)
    if tree.find("track") is not None:
        yield from _video(tree, path, library, report, video, boxes)
    for image in tree.iterfind("image"):
        local = RecordReport(report, str(path), image.get("name"))
        try:
            size = (_integer(image, "height"), _integer(image, "width"))
            media = Media("image", library.find(image.get("name"), field="image name"))
            found = _image_objects(image, size, boxes, local)
        except MALFORMED as error:
            local.drop(error)
            continue
        turns = expressions.objects(found)
        named = [(f"{image.get('id')}#{number}", turn) for number, turn in enumerate(turns)]
        yield from image_samples(media, named, turns_per_sample, str(path))


def _video(
    tree: Any, path: files.PathLike, library: Library, report: Report, video: Any, boxes: bool
) -> Iterator[Sample]:
    task = tree.find("meta/task") if tree.find("meta/task") is not None else tree.find("meta/job")
    stated = {} if task is None else {e.tag: (e.text or "").strip() for e in task.iter()}
    name = video or stated.get("source") or stated.get("name") or ""
    local = RecordReport(report, str(path), name or "task")
    try:
        media = Media("video", library.find(name, field="source"))
        total, size = _clip(media, library, stated)
    except MALFORMED as error:
        local.drop(error)
        return
    found = []
    for track in tree.iterfind("track"):
        try:
            rles = dict(_frames(track, size, total, boxes))
            if not any(rles.values()):
                raise DataError("no mask on any frame", reason="all_masks_absent")
            one = MaskTrack(size=size, total=total, rles=rles)
            found.append((track.get("label", "").strip(), one))
        except MALFORMED as error:
            local.drop(error, f"track id {track.get('id')}")
    turns = tuple(expressions.objects(found))
    if turns:
        yield Sample(name, media, turns, source=str(path)).validate()


def _clip(media: Media, library: Library, stated: dict[str, str]) -> tuple[int, tuple[int, int]]:
    """Frames and size of the clip; those that the task states must agree."""
    facts = library.facts(media.sources[0])
    size = (stated.get("height"), stated.get("width"))
    if facts is None:
        if not (stated.get("size", "").isdigit() and all(str(side).isdigit() for side in size)):
            raise DataError("the task states no size", field="meta", reason="missing_field")
        return int(stated["size"]), (int(str(size[0])), int(str(size[1])))
    if None not in size and size != (str(facts.height), str(facts.width)):
        raise DataError(
            "the task's size differs from the clip's",
            field="original_size",
            found=size,
            expected=(facts.height, facts.width),
            reason="size_mismatch",
        )
    return facts.frames, (facts.height, facts.width)


def _frames(
    track: Any, size: tuple[int, int], total: int, boxes: bool
) -> Iterator[tuple[int, Optional[RLE]]]:
    for shape in track:
        if shape.tag not in SHAPES:
            continue
        frame = _integer(shape, "frame")
        if not 0 <= frame < total:
            raise DataError(
                "a shape's frame is not in the clip",
                found=frame,
                expected=f"0 to {total - 1}",
                reason="frame_out_of_range",
            )
        yield frame, None if shape.get("outside") == "1" else _rle(shape, size, boxes)


def _image_objects(image: Any, size: tuple[int, int], boxes: bool, local: RecordReport) -> list:
    found = []
    for number, shape in enumerate(image):
        if shape.tag not in SHAPES:
            continue
        try:
            rle = _rle(shape, size, boxes)
            if rle is None:
                raise DataError("nothing is drawn", reason="all_masks_absent")
            track = MaskTrack(size=size, total=1, rles={0: rle})
            found.append((shape.get("label", "").strip(), track))
        except MALFORMED as error:
            local.drop(error, f"shape {number}")
    return found


def _rle(shape: Any, size: tuple[int, int], boxes: bool) -> Optional[RLE]:
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";") if pair]
        return read_segmentation([_numbers([value for pair in pairs for value in pair])], size)
    if shape.tag == "mask":
        return _mask(shape, size)
    if shape.tag == "box" and boxes:
        left, top, right, bottom = _numbers([shape.get(k) for k in ("xtl", "ytl", "xbr", "ybr")])
        return read_segmentation([[left, top, right, top, right, bottom, left, bottom]], size)
    raise DataError(
        f"a {shape.tag} has no pixels of its own",
        expected="a polygon or mask (boxes=true fills boxes)",
        reason="bad_segmentation",
    )


def _mask(shape: Any, size: tuple[int, int]) -> RLE:
    """CVAT's RLE: runs in row order, background first, inside a box."""
    left, top, width, height = (_integer(shape, k) for k in ("left", "top", "width", "height"))
    runs = [int(run) for run in _numbers((shape.get("rle") or "").split(","))]
    fits = min(left, top) >= 0 and min(width, height) > 0
    inside = fits and left + width <= size[1] and top + height <= size[0]
    if not inside or min(runs) < 0 or sum(runs) != width * height:
        raise DataError(
            "the runs do not fill their box inside the frame",
            found=f"{sum(runs)} pixels in {width}x{height} at {left},{top}",
            expected=f"inside {size[1]}x{size[0]}",
            reason="bad_segmentation",
        )
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    whole = np.zeros(size, bool)
    whole[top : top + height, left : left + width] = values
    return masks.encode(whole)


def _parse(path: files.PathLike) -> Any:
    """The document, without entities."""
    with files.open_binary(path) as file:
        content = file.read()
    try:
        if b"<!ENTITY" in content:
            raise DataError("the file declares entities", file=str(path), reason="bad_xml")
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise DataError(f"not valid XML: {error}", file=str(path), reason="bad_xml") from error


def _integer(element: Any, name: str) -> int:
    text = element.get(name, "")
    if not text.lstrip("-").isdigit() or abs(int(text)) > LARGEST_SIDE * 1000:
        raise DataError("a number was expected", field=name, found=text, reason="missing_field")
    return int(text)


def _numbers(texts: list[Any]) -> list[float]:
    try:
        values = [float(text) for text in texts]
    except (TypeError, ValueError) as error:
        raise DataError(f"damaged coordinates: {error}", reason="bad_segmentation") from error
    if not values or not np.isfinite(values).all():
        raise DataError("no coordinates", found=texts[:4], reason="bad_segmentation")
    return values
