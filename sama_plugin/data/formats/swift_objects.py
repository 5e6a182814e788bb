"""ms-swift's JSON lines with `objects`: `<ref-object>` and `<bbox>` in the messages.

A `<bbox>` the user writes is a region (its box, or its mask where `objects.mask` has one); a
`<ref-object>` is its words. In an answer, "<ref-object><bbox>" with a mask is a grounded phrase;
without one the box stays text, in InternVL's thousandths. `objects.mask`, one RLE, list of
polygons, `{frame: RLE}` or null a box, is our addition: ms-swift itself ignores it.
"""

from __future__ import annotations

import re
from typing import Any, Iterator, Mapping, Optional

from sama_plugin.data.formats import files
from sama_plugin.data.formats.segmentations import read_segmentation
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict
from sama_plugin.dialog.sample import Media, Region, Sample, Target, Turn
from sama_plugin.dialog.tokens import PHRASE_CLOSE, PHRASE_OPEN, REGION_MARK, SEG
from sama_plugin.errors import DataError
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack

_MARKS = re.compile(r"<ref-object>|<bbox>")
_GROUNDED = re.compile(r"<ref-object>\s*<bbox>|<ref-object>|<bbox>")
_MEDIA = re.compile(r"(?:<image>|<video>)\n?")


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
) -> Iterator[Sample]:
    """Samples of a JSON-lines file, one image or video a line; see `data.formats.Format`."""
    report, library = report or Strict(), Library(root, probe)
    for number, line in files.lines(path):
        try:
            record = files.parse_line(line)
            local = RecordReport(report, str(path), record.get("id", f"line {number}"))
            yield _sample(record, number, library, str(path))
        except DataError as error:
            report.drop(error.at(file=str(path), record=f"line {number}"))
        except MALFORMED as error:
            local.drop(error)


def _sample(record: Mapping[str, Any], number: int, library: Library, source: str) -> Sample:
    messages = list(record["messages"])
    system = messages.pop(0)["content"] if messages[0]["role"] == "system" else None
    roles = [message["role"] for message in messages]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise DataError(
            "turns should be user, then assistant",
            field="messages",
            found=roles,
            reason="role_order",
        )
    objects = _Objects(record, _media(record, library), library)
    texts = [_MEDIA.sub("", message["content"]) for message in messages]
    turns = tuple(
        objects.turn(question, answer) for question, answer in zip(texts[::2], texts[1::2])
    )
    objects.check_used()
    name = str(record.get("id", number))
    return Sample(name, objects.media, turns, system=system, source=source).validate()


class _Objects:
    """The `objects` of a record, handed out in the order of the text."""

    def __init__(self, record: Mapping[str, Any], media: Media, library: Library):
        found = record.get("objects") or {}
        self.media = media
        self.words, self.boxes = list(found.get("ref") or ()), list(found.get("bbox") or ())
        self.masks = list(found.get("mask") or [None] * len(self.boxes))
        self.size: tuple[int, int] = (1, 1)
        self.total = 1
        if self.boxes:
            facts = library.facts(media.sources[0]) if media.sources else None
            if facts is None:
                raise DataError("boxes need the size of their picture", reason="unreadable_media")
            self.size, self.total = (facts.height, facts.width), facts.frames
        self.scale = (self.size[1], self.size[0]) if found.get("bbox_type") == "norm1" else (1, 1)
        self.word = self.box = 0

    def turn(self, question: str, answer: str) -> Turn:
        regions: list[Region] = []
        targets: list[Target] = []

        def pointed(match: re.Match) -> str:
            if match.group() == "<ref-object>":
                return self._next_words()
            regions.append(self._region())
            return REGION_MARK

        def grounded(match: re.Match) -> str:
            words = self._next_words() if match.group().startswith("<ref") else ""
            if not match.group().endswith("<bbox>"):
                return words
            box, track = self._next_box()
            if track is None or not words:
                return f"{words}[[{', '.join(map(str, self._thousandths(box)))}]]"
            targets.append(Target(words, track))
            return f"{PHRASE_OPEN} {words} {PHRASE_CLOSE} {SEG}"

        user = _MARKS.sub(pointed, question)
        return Turn(user, _GROUNDED.sub(grounded, answer), tuple(regions), tuple(targets))

    def check_used(self) -> None:
        left = len(self.boxes) - self.box, len(self.words) - self.word
        if any(left):
            raise DataError(
                f"{left[0]} boxes and {left[1]} names have no mark in the text",
                field="objects",
                reason="region_count_mismatch",
            )

    def _region(self) -> Region:
        box, track = self._next_box()
        if track is None:
            return Region((RegionPrompt.from_box(0, box),))
        drawn = [(frame, rle) for frame, rle in sorted(track.rles.items()) if rle is not None]
        return Region(tuple(RegionPrompt.from_mask(frame, rle) for frame, rle in drawn))

    def _next_words(self) -> str:
        self.word += 1
        return str(_at(self.words, self.word - 1, "ref"))

    def _next_box(self) -> tuple[tuple[float, ...], Optional[MaskTrack]]:
        box = _at(self.boxes, self.box, "bbox")
        entry = _at(self.masks, self.box, "mask")
        self.box += 1
        if len(box) == 2:  # a point
            box = [box[0], box[1], box[0] + 1 / self.scale[0], box[1] + 1 / self.scale[1]]
        scaled = tuple(float(value) * self.scale[i % 2] for i, value in enumerate(box))
        return scaled, self._track(entry)

    def _track(self, entry: Any) -> Optional[MaskTrack]:
        if isinstance(entry, Mapping) and "counts" not in entry:
            read_frames = {int(f): read_segmentation(rle, self.size) for f, rle in entry.items()}
        else:
            rle = read_segmentation(entry, self.size)
            read_frames = {} if rle is None else {0: rle}
        if not any(read_frames.values()):
            return None
        return MaskTrack(size=self.size, total=self.total, rles=read_frames)

    def _thousandths(self, box: tuple[float, ...]) -> list[int]:
        return [round(1000 * value / self.size[1 - i % 2]) for i, value in enumerate(box)]


def _at(values: list, place: int, name: str) -> Any:
    if place >= len(values):
        raise DataError(
            "the text has more marks than there are objects",
            field=f"objects.{name}",
            found=len(values),
            reason="region_count_mismatch",
        )
    return values[place]


def _media(record: Mapping[str, Any], library: Library) -> Media:
    images, videos = record.get("images") or [], record.get("videos") or []
    if len(images) + len(videos) > 1:
        raise DataError(
            "one image or video a line",
            field="images",
            found=len(images) + len(videos),
            reason="image_placeholder_mismatch",
        )
    if not images and not videos:
        return Media("none")
    kind, name = ("image", images[0]) if images else ("video", videos[0])
    name = name.get("path") if isinstance(name, Mapping) else name
    return Media(kind, library.find(name, field=f"{kind}s"))
