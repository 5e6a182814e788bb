"""Label Studio's JSON export: brush RLE, polygons and boxes on images.

Brush masks are bit-packed runs of RGBA bytes; a pixel belongs to the object where its alpha is not
0. Polygons are in percent of the picture. Labels become words; of several annotations of a task
the first that was not cancelled counts.
"""

from __future__ import annotations

import os
from typing import Any, Iterator, Mapping, Optional, Sequence
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from sama_plugin.data.formats import expressions, files
from sama_plugin.data.formats.image_expressions import image_samples, image_track
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict
from sama_plugin.dialog.sample import Media, Sample
from sama_plugin.errors import DataError
from sama_plugin.media import masks
from sama_plugin.media.masks import RLE


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    field: str = "",
    turns_per_sample: int = 5,
) -> Iterator[Sample]:
    """Samples of an export; see `data.formats.Format`.

    Args:
        root: folder of the images; the host and upload folder of their URLs are left out.
        field: key of the image in `data`; default the first whose value is text.
    """
    report, library = report or Strict(), Library(root, probe)
    for number, task in enumerate(files.load_records(path)):
        local = RecordReport(report, str(path), task.get("id", number))
        try:
            media = Media("image", _image(task["data"], field, library))
            size = library.size(media.source)
            turns = expressions.objects(_objects(task, size, local))
        except MALFORMED as error:
            local.drop(error)
            continue
        named = [(f"{task.get('id', number)}#{i}", turn) for i, turn in enumerate(turns)]
        yield from image_samples(media, named, turns_per_sample, str(path))


def unpack(packed: Sequence[int], expected: int) -> np.ndarray:
    """Bytes of a brush mask, (expected,) uint8.

    The stream is: 32 bits the number of values, 5 bits the width of a value less 1, four times 4
    bits the widths of run lengths less 1, then blocks of 1 bit (1 = one value repeated), 2 bits
    (which width), the length less 1, and the value or values.

    Raises:
        DataError: `bad_segmentation`, also when it would unpack to another number of values.
    """
    bits = np.unpackbits(np.asarray(packed, dtype=np.uint8))
    reader = _Bits(bits)
    count, width = reader.take(32), reader.take(5) + 1
    lengths = [reader.take(4) + 1 for _ in range(4)]
    if count != expected:
        raise DataError(
            "the brush mask does not fit the picture",
            found=count,
            expected=expected,
            reason="size_mismatch",
        )
    values, filled = np.empty(count, np.uint8), 0
    while filled < count:
        repeated = reader.take(1)
        run = reader.take(lengths[reader.take(2)]) + 1
        if filled + run > count:
            raise DataError("a run leaves the picture", reason="bad_segmentation")
        if repeated:
            values[filled : filled + run] = reader.take(width)
        else:
            values[filled : filled + run] = reader.take_many(run, width)
        filled += run
    return values


class _Bits:
    """Numbers from a stream of bits, most significant first."""

    def __init__(self, bits: np.ndarray):
        self.bits, self.place = bits, 0

    def take(self, width: int) -> int:
        """One number."""
        return int(self.take_many(1, width)[0])

    def take_many(self, count: int, width: int) -> np.ndarray:
        """(count,) numbers."""
        end = self.place + count * width
        if end > len(self.bits):
            raise DataError("the brush mask is cut off", reason="bad_segmentation")
        rows = self.bits[self.place : end].reshape(count, width).astype(np.int64)
        self.place = end
        return rows @ (1 << np.arange(width)[::-1])


def _objects(task: Mapping[str, Any], size: tuple[int, int], local: RecordReport) -> list:
    """(label, track) of every result of the task."""
    found = []
    kept = [one for one in task["annotations"] if not one.get("was_cancelled")]
    for number, result in enumerate(kept[0]["result"] if kept else ()):
        try:
            stated = (result.get("original_height", size[0]), result.get("original_width", size[1]))
            if stated != size:
                raise DataError(
                    "the stated size differs from the picture's",
                    found=stated,
                    expected=size,
                    reason="size_mismatch",
                )
            value = result["value"]
            track = image_track(_drawn(value, size), size)
            if track is None:
                raise DataError("nothing is drawn", reason="all_masks_absent")
            found.append((_label(value), track))
        except MALFORMED as error:
            local.drop(error, f"result[{number}]")
    return found


def _drawn(value: Mapping[str, Any], size: tuple[int, int]) -> Any:
    """An RLE or polygons in pixels."""
    if "rle" in value:
        return _brush(value["rle"], size)
    if "points" in value:
        ring = [
            side * part / 100
            for x, y in value["points"]
            for side, part in ((size[1], x), (size[0], y))
        ]
        return [ring]
    if {"x", "y", "width", "height"} <= set(value):
        left, right = (size[1] * part / 100 for part in (value["x"], value["x"] + value["width"]))
        top, bottom = (size[0] * part / 100 for part in (value["y"], value["y"] + value["height"]))
        return [[left, top, right, top, right, bottom, left, bottom]]
    raise DataError("nothing with pixels", found=sorted(value), reason="bad_segmentation")


def _brush(packed: Sequence[int], size: tuple[int, int]) -> RLE:
    values = unpack(packed, size[0] * size[1] * 4).reshape(*size, 4)
    return masks.encode(values[..., 3] > 0)


def _label(value: Mapping[str, Any]) -> str:
    labels = next((value[key] for key in value if key.endswith("labels") and value[key]), [""])
    return str(labels[0]).strip()


def _image(data: Mapping[str, Any], field: str, library: Library) -> str:
    """The picture below the root, by the longest end of its URL that is there."""
    name = data[field] if field else next((v for v in data.values() if isinstance(v, str)), None)
    if not isinstance(name, str):
        raise DataError("the task names no picture", field="data", reason="missing_field")
    url = urlsplit(name)
    asked = parse_qs(url.query).get("d")  # local storage: /data/local-files/?d=folder/name.jpg
    parts = [part for part in unquote(asked[0] if asked else url.path).split("/") if part]
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    ends += [parts[-1].split("-", 1)[1]] if parts and "-" in parts[-1] else []  # upload prefix
    for end in ends:
        if os.path.isfile(library.root / end):
            return library.find(end, field="data")
    return library.find("/".join(parts) or name, field="data")
