"""Sa2VA's fine-tuning `annotations.json`: image, one list of polygons and one text an object.

Rings of one object are united; an object with an empty text or a damaged mask is dropped alone.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional

from sama_plugin.data.formats import expressions, files
from sama_plugin.data.formats.image_expressions import image_samples, image_track
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict
from sama_plugin.dialog.sample import Media, Sample, Turn
from sama_plugin.errors import DataError


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    expressions_per_sample: int = 5,
) -> Iterator[Sample]:
    """Samples of an `annotations.json`; `root` is the image folder; see `data.formats.Format`."""
    report, library = report or Strict(), Library(root, probe)
    for number, record in enumerate(files.load_records(path)):
        local = RecordReport(report, str(path), number)
        try:
            media = Media("image", library.find(record.get("image"), field="image"))
            turns = _turns(record, number, library.size(media.source), local)
        except MALFORMED as error:
            local.drop(error)
            continue
        yield from image_samples(media, turns, expressions_per_sample, str(path))


def _turns(
    record: Mapping[str, Any], number: int, size: tuple[int, int], local: RecordReport
) -> list[tuple[str, Turn]]:
    texts, objects = record["text"], record["mask"]
    if len(texts) != len(objects):
        raise DataError(
            "as many texts as masks are needed",
            field="text",
            found=len(texts),
            expected=len(objects),
            reason="mask_count_mismatch",
        )
    turns = []
    for index, (text, polygons) in enumerate(zip(texts, objects)):
        phrase = str(text or "").strip().rstrip(".").lower()
        try:
            if not phrase:
                raise DataError("the text is empty", reason="empty_expression")
            track = image_track(polygons, size)
            if track is None:
                raise DataError("nothing is drawn", reason="all_masks_absent")
            turns.append((f"{number}#{index}", expressions.turn(phrase, track)))
        except MALFORMED as error:
            local.drop(error, f"object {index}")
    return turns
