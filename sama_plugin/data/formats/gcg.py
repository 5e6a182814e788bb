"""Grounded captions of images: GranD-f, OpenPSG, Flickr and RefCOCOg, one sample an image.

The layout is told from the file: a list of records with `groundings` (GranD-f, OpenPSG; offsets
count in the caption without its quotation marks), COCO tables with a caption an image (Flickr), or
a list of `{id: record}` (RefCOCOg; phrases are searched in the lower-cased caption). Phrases are
marked in the order of the caption; one with several masks means their union.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Optional, Sequence

from sama_plugin.data.formats import files
from sama_plugin.data.formats.segmentations import read_segmentation
from sama_plugin.data.formats.video_expressions import frame_size
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict
from sama_plugin.dialog.sample import Media, Sample, Target, Turn
from sama_plugin.dialog.tokens import PHRASE_CLOSE, PHRASE_OPEN, SEG
from sama_plugin.errors import DataError
from sama_plugin.media import masks
from sama_plugin.media.tracks import MaskTrack

ASK = "Please describe the image, with a segmentation mask for every thing that you name."
FEWEST_WORDS = 3


@dataclass(frozen=True)
class Grounding:
    """A phrase of a caption, by its characters, and its masks."""

    start: int
    end: int
    segmentations: Sequence[Any]
    where: str


@dataclass(frozen=True)
class Caption:
    """What the four layouts have in common; size None means that of the image file."""

    id: str
    image: str
    text: str
    size: Optional[tuple[int, int]]
    groundings: Sequence[Grounding]


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
) -> Iterator[Sample]:
    """Samples of any of the four files; `root` is the image folder; see `data.formats.Format`."""
    report, library = report or Strict(), Library(root, probe)
    for name, record, convert in _records(path):
        local = RecordReport(report, str(path), name)
        try:
            caption = convert(name, record, local)
            sample = _sample(caption, library, local, str(path))
        except MALFORMED as error:
            local.drop(error)
            continue
        yield sample


def _records(path: files.PathLike) -> Iterator[tuple[str, Any, Any]]:
    content = files.load(path)
    if isinstance(content, Mapping):
        tables = files.load_tables(path, ("images", "annotations"))
        of_image: dict[Any, list] = {}
        for annotation in tables["annotations"]:
            of_image.setdefault(annotation.get("image_id"), []).append(annotation)
        for image in tables["images"]:
            yield str(image["id"]), {**image, "objects": of_image.get(image["id"], [])}, _flickr
        return
    for number, record in enumerate(files.as_records(content, path)):
        if "groundings" in record or "caption" in record:
            yield str(record.get("image_id", number)), record, _grandf
        else:
            for name, inner in record.items():
                yield str(name), inner, _refcocog


def _grandf(name: str, record: Mapping[str, Any], local: RecordReport) -> Caption:
    groundings = [
        Grounding(*entry["token_positives"], entry["rle_masks"], f"groundings[{phrase!r}]")
        for phrase, entry in record["groundings"].items()
        if entry is not None
    ]
    text = _unquoted(record["caption"])
    return Caption(name, record["file_name"], text, frame_size(record), groundings)


def _flickr(name: str, record: Mapping[str, Any], local: RecordReport) -> Caption:
    groundings = []
    for entry in record["objects"]:
        where = f"annotations id {entry.get('id')}"
        if min(entry["bbox"][2:]) < 1:
            local.drop(DataError("the box is narrower than a pixel", reason="tiny_box"), where)
            continue
        for start, end in entry["tokens_positive"]:
            groundings.append(Grounding(start, end, [entry["sam_mask"]], where))
    text = record["caption"]
    return Caption(name, record["file_name"], text, frame_size(record), groundings)


def _refcocog(name: str, record: Mapping[str, Any], local: RecordReport) -> Caption:
    text = _unquoted(record["caption"]).lower()
    groundings = []
    for number, ref in enumerate(record["refs"]):
        phrase = str(ref["sentence"]).strip().lower()
        start = text.find(phrase) if phrase else -1
        if start < 0:
            error = DataError(
                "the phrase is not in the caption", found=phrase, reason="phrase_not_in_caption"
            )
            local.drop(error, f"refs[{number}]")
            continue
        found = [ref["segmentation"]]
        groundings.append(Grounding(start, start + len(phrase), found, f"refs[{number}]"))
    return Caption(name, record["img_file_name"], text, None, groundings)


def _sample(caption: Caption, library: Library, local: RecordReport, source: str) -> Sample:
    if len(caption.text.split()) < FEWEST_WORDS:
        raise DataError(
            f"a caption needs {FEWEST_WORDS} words",
            field="caption",
            found=caption.text,
            reason="short_caption",
        )
    media = Media("image", library.find(caption.image, field="image"))
    size = caption.size or library.size(media.source)
    spans = _spans(caption, size, local)
    pieces, targets, end = [], [], 0
    for (start, stop), rle in spans:
        phrase = caption.text[start:stop].strip()
        pieces += [caption.text[end:start], f"{PHRASE_OPEN} {phrase} {PHRASE_CLOSE} {SEG}"]
        targets.append(Target(phrase, MaskTrack(size=size, total=1, rles={0: rle})))
        end = stop
    answer = "".join([*pieces, caption.text[end:]])
    turn = Turn(ASK, answer, targets=tuple(targets))
    return Sample(caption.id, media, (turn,), source=source).validate()


def _spans(
    caption: Caption, size: tuple[int, int], local: RecordReport
) -> list[tuple[tuple[int, int], Any]]:
    """Spans in caption order with their masks; equal spans are united, overlapping ones dropped."""
    found: dict[tuple[int, int], list] = {}
    for one in sorted(caption.groundings, key=lambda one: (one.start, one.end)):
        span = (one.start, one.end)
        try:
            if not 0 <= one.start < one.end <= len(caption.text):
                raise DataError(
                    "the span lies outside the caption",
                    found=span,
                    expected=f"inside 0 to {len(caption.text)}",
                    reason="span_outside_caption",
                )
            if span not in found and found and one.start < max(end for _, end in found):
                raise DataError("the span overlaps another", found=span, reason="overlapping_span")
            rles = [read_segmentation(entry, size) for entry in one.segmentations]
            present = [rle for rle in rles if rle is not None]
            if not present:
                raise DataError("nothing is drawn", reason="all_masks_absent")
        except MALFORMED as error:
            local.drop(error, one.where)
            continue
        found.setdefault(span, []).extend(present)
    if not found:
        raise DataError("no phrase of the caption has a mask", reason="no_objects")
    return [(span, masks.merge(rles)) for span, rles in found.items()]


def _unquoted(text: str) -> str:
    return str(text).strip().strip('"').strip()
