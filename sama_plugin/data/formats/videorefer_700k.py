"""VideoRefer-700K, `annotation` flavour: short and detailed captions, QA, image and plain records.

`annotation` lists one mapping a `<region>`, from frame number (0-based in the decoded clip, or
position in the sorted folder) to a segmentation. Keys are not in order, an entry may be null, `{}`
or nested one level too deep, `<video>` stands before or behind the question; all that is read as
meant (VideoRefer section 3). `<objectN>` tags are ordinary words. Used as training data and by the
mini world.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Optional, Sequence, Union

from sama_plugin.data.formats import files
from sama_plugin.data.formats.messages import in_turns
from sama_plugin.data.formats.record_list import read_records
from sama_plugin.data.formats.segmentations import note_unsized, read_segmentation
from sama_plugin.data.library import Facts, Library
from sama_plugin.data.report import RecordReport, Report
from sama_plugin.dialog.sample import Media, Region, Sample, Turn
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.errors import DataError
from sama_plugin.media.prompts import RegionPrompt

PathLike = Union[str, Path]

MANY_OBJECTS = 5
"""More objects than this are noted; others who use the data drop such records."""

_PLACEHOLDERS = ("<video>", "<image>")


def read(
    path: PathLike, root: PathLike, *, report: Optional[Report] = None, probe: bool = True
) -> Iterator[Sample]:
    """Samples of a VideoRefer-700K file; see `data.formats.Format`."""
    return read_records(path, root, parse, report, probe)


def parse(
    record: Mapping[str, Any], library: Library, report: RecordReport, source: str = ""
) -> Sample:
    """One record as a Sample."""
    media = _media(record, library)
    pairs = _pairs(record, report)
    marks = sum(question.count(REGION_MARK) for question, _ in pairs)
    annotation = record.get("annotation") or []
    if len(annotation) != marks:
        if not annotation:
            report.note(DataError("no objects", field="annotation", reason="no_objects"))
        raise DataError(
            f"{marks} {REGION_MARK} in the text for {len(annotation)} objects",
            field="annotation",
            reason="region_count_mismatch",
        )
    if len(annotation) > MANY_OBJECTS:
        report.note(DataError(f"{len(annotation)} objects", reason="too_many_objects"))
    regions = iter(read_objects(record, annotation, media, library, report))
    turns = tuple(
        Turn(question, answer, tuple(next(regions) for _ in range(question.count(REGION_MARK))))
        for question, answer in pairs
    )
    return Sample(str(record["id"]), media, turns, source=source).validate()


def read_objects(
    record: Mapping[str, Any],
    annotation: Sequence[Mapping[str, Any]],
    media: Media,
    library: Library,
    report: RecordReport,
    keep: Optional[str] = None,
) -> list[Region]:
    """A region for every annotated object, its frames in order.

    Args:
        keep: read this frame key only (the benchmark's single-frame mode); a null mask there gives
            no prompt.
    """
    facts = library.facts(media.source) if media.source else None
    stated = _stated_size(record)
    size = (facts.height, facts.width) if facts else stated
    regions = []
    for index, entry in enumerate(annotation):
        where = f"annotation[{index}]"
        prompts = []
        for key in sorted(entry, key=_frame_number):
            if keep is not None and key != keep:
                continue
            frame = 0 if media.kind == "image" else _in_clip(_frame_number(key), facts, where)
            segmentation = _segmentation(entry[key], f"{where}[{key!r}]", report)
            note_unsized(segmentation, stated, report, f"{where}[{key!r}]")
            try:
                rle = read_segmentation(segmentation, size)
            except DataError as error:
                raise error.at(field=f"{where}[{key!r}]") from error
            if rle is not None:
                prompts.append(RegionPrompt.from_mask(frame, rle))
        if not prompts and keep is None:
            raise DataError("no mask on any frame", field=where, reason="all_masks_absent")
        regions.append(Region(tuple(prompts)))
    return regions


def write(samples: Iterable[Sample], path: PathLike, root: PathLike) -> int:
    """Write samples whose regions are masks, without targets; returns their number."""
    records = [_record(sample, root) for sample in samples]
    files.write_json(path, records)
    return len(records)


def _media(record: Mapping[str, Any], library: Library) -> Media:
    for field in ("conversations", "id"):
        if record.get(field) is None:
            raise DataError("a required field is absent", field=field, reason="missing_field")
    for kind in ("video", "image"):
        if record.get(kind) is not None:
            return Media(kind, library.find(record[kind], field=kind))
    return Media("none")


def _pairs(record: Mapping[str, Any], report: RecordReport) -> list[tuple[str, str]]:
    pairs = in_turns(record["conversations"], report)
    return [(_without_placeholders(asked["value"]), told["value"]) for asked, told in pairs]


def _without_placeholders(text: str) -> str:
    for placeholder in _PLACEHOLDERS:
        text = text.replace(f"{placeholder}\n", "").replace(f"\n{placeholder}", "")
        text = text.replace(placeholder, "")
    return text


def _frame_number(key: str) -> int:
    try:
        return int(key)
    except (TypeError, ValueError) as error:
        raise DataError(
            "a frame key is not a number",
            field="annotation",
            found=key,
            reason="frame_out_of_range",
        ) from error


def _in_clip(frame: int, facts: Optional[Facts], where: str) -> int:
    if frame < 0 or (facts is not None and frame >= facts.frames):
        raise DataError(
            "the frame is outside the clip",
            field=where,
            found=frame,
            expected=f"0 to {facts.frames - 1}" if facts else "0 or more",
            reason="frame_out_of_range",
        )
    return frame


def _segmentation(entry: Any, where: str, report: RecordReport) -> Any:
    """The segmentation of one frame; entries nested too deep are unwrapped, `{}` is null."""
    while isinstance(entry, Mapping) and len(entry) == 1 and "segmentation" not in entry:
        entry = next(iter(entry.values()))
    if isinstance(entry, Mapping) and "segmentation" in entry:
        return entry["segmentation"]
    report.note(DataError("no segmentation", reason="missing_segmentation_key"), where)
    return None


def _stated_size(record: Mapping[str, Any]) -> Optional[tuple[int, int]]:
    if record.get("height") and record.get("width"):
        return int(record["height"]), int(record["width"])
    return None


def _record(sample: Sample, root: PathLike) -> dict[str, Any]:
    if sample.targets:
        raise DataError("VideoRefer records cannot hold targets", record=sample.id)
    conversations = []
    for number, turn in enumerate(sample.turns):
        if _without_placeholders(turn.user) != turn.user:
            raise DataError(
                "these records cannot hold <video> or <image> as words",
                record=sample.id,
                field=f"turns[{number}].user",
                found=turn.user,
                reason="bad_field",
            )
        place = f"<{sample.media.kind}>\n" if number == 0 and sample.media.kind != "none" else ""
        conversations.append({"from": "human", "value": place + turn.user})
        conversations.append({"from": "gpt", "value": turn.assistant or ""})
    record: dict[str, Any] = {"id": sample.id}
    if sample.media.source is not None:
        record[sample.media.kind] = files.relative(sample.media.sources[0], root)
    record["conversations"] = conversations
    if sample.regions:
        record["annotation"] = [annotation_of(region, sample.id) for region in sample.regions]
    return record


def annotation_of(region: Region, sample_id: str) -> dict[str, Any]:
    """Frame key to segmentation, for a region pointed at by masks."""
    entry = {}
    for prompt in sorted(region.prompts, key=lambda prompt: prompt.frame):
        if prompt.mask is None:
            raise DataError(
                "this format holds masks only", record=sample_id, found=prompt.kind, expected="mask"
            )
        entry[str(prompt.frame)] = {"segmentation": prompt.mask}
    return entry
