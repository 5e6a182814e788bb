"""Osprey-724K: conversation, detail, short form, part level, positive/negative; all on images.

`<regionN>` in the text is the N-th annotation. The first time the user names it, it becomes
"regionN <region>", later and in answers plain "regionN". Annotations that no question names are
shown before the first question. The detail file has one description an annotation instead.
"""

from __future__ import annotations

import re
from typing import Any, Iterator, Mapping, Optional

from sama_plugin.data.formats import files
from sama_plugin.data.formats.messages import in_turns
from sama_plugin.data.formats.record_list import read_records
from sama_plugin.data.formats.segmentations import note_unsized, read_segmentation
from sama_plugin.data.formats.video_expressions import frame_size
from sama_plugin.data.library import Library
from sama_plugin.data.report import RecordReport, Report
from sama_plugin.dialog.sample import Media, Region, Sample, Turn
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.errors import DataError
from sama_plugin.media.prompts import RegionPrompt

DESCRIBE = "Please describe {} in detail."

_NAMED = re.compile(r"<region(\d+)>")
_HEADING = re.compile(r"^\s*<region\d+>\s*:\s*")


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
) -> Iterator[Sample]:
    """Samples of any Osprey file; `root` is the image folder; see `data.formats.Format`."""
    return read_records(path, root, parse, report, probe)


def parse(
    record: Mapping[str, Any], library: Library, report: RecordReport, source: str = ""
) -> Sample:
    """One record as a Sample."""
    annotation = record.get("annotation") or []
    if not annotation:
        raise DataError("no objects", field="annotation", reason="no_objects")
    media = Media("image", library.find(record.get("file_name"), field="file_name"))
    stated = frame_size(record)
    size = stated or library.size(media.source)
    for index, entry in enumerate(annotation):
        note_unsized(entry.get("segmentation"), stated, report, f"annotation[{index}]")
    regions = [_region(entry, index, size) for index, entry in enumerate(annotation, 1)]
    if "description" in record:
        turns = _described(record["description"], regions)
    else:
        turns = _conversation(_pairs(record, report), regions)
    return Sample(str(record["id"]), media, tuple(turns), source=source).validate()


def _region(entry: Mapping[str, Any], number: int, size: tuple[int, int]) -> Region:
    where = f"annotation[{number - 1}]"
    try:
        rle = read_segmentation(entry.get("segmentation"), size)
    except DataError as error:
        raise error.at(field=where) from error
    if rle is None:
        raise DataError("nothing is drawn", field=where, reason="all_masks_absent")
    return Region((RegionPrompt.from_mask(0, rle),), name=f"region{number}")


def _described(texts: Any, regions: list[Region]) -> list[Turn]:
    if len(texts) != len(regions):
        raise DataError(
            "one description an annotation",
            field="description",
            found=len(texts),
            expected=len(regions),
            reason="region_count_mismatch",
        )
    return [
        Turn(
            DESCRIBE.format(REGION_MARK), _NAMED.sub(r"region\1", _HEADING.sub("", text)), (region,)
        )
        for text, region in zip(texts, regions)
    ]


def _pairs(record: Mapping[str, Any], report: RecordReport) -> list[tuple[str, str]]:
    messages = list(record["conversations"])
    if messages and messages[0].get("from") == "gpt":
        report.note(DataError("a leading answer is dropped", reason="role_order"), "conversations")
        messages = messages[1:]
    pairs = in_turns(messages, report)
    return [(_words(question), _words(answer)) for question, answer in pairs]


def _words(message: Mapping[str, Any]) -> str:
    return message["value"].replace("<image>\n", "").replace("<image>", "")


def _conversation(pairs: list[tuple[str, str]], regions: list[Region]) -> list[Turn]:
    named = {int(number) for question, _ in pairs for number in _NAMED.findall(question)}
    outside = sorted(number for number in named if not 1 <= number <= len(regions))
    if outside:
        raise DataError(
            "the text names a region that is not annotated",
            field="conversations",
            found=f"<region{outside[0]}>",
            expected=f"<region1> to <region{len(regions)}>",
            reason="region_count_mismatch",
        )
    unnamed = [number for number in range(1, len(regions) + 1) if number not in named]
    shown = ", ".join(f"<region{number}>" for number in unnamed)
    seen: set[int] = set()
    turns = []
    for index, (question, answer) in enumerate(pairs):
        text = f"There is {shown}. {question}" if shown and index == 0 else question
        here: list[Region] = []

        def replace(match: re.Match, here: list[Region] = here) -> str:
            number = int(match.group(1))
            if number in seen:
                return f"region{number}"
            seen.add(number)
            here.append(regions[number - 1])
            return f"region{number} {REGION_MARK}"

        user = _NAMED.sub(replace, text)
        turns.append(Turn(user, _NAMED.sub(r"region\1", answer), tuple(here)))
    return turns
