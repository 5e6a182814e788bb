"""VideoRefer-Bench-D (describe the object) and -Q (multiple choice about objects), one single-turn
Sample each.

Mode "single" points at every object on the frame `frame_idx`, "multi" on all annotated frames. A
null mask at `frame_idx` is a region that is nowhere to be seen. -Q samples are tagged with the
question type and answered by the option's letter. Used by `eval` and by the mini world.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Optional, Union

from sama_plugin.data.formats import files
from sama_plugin.data.formats.record_list import read_records
from sama_plugin.data.formats.videorefer_700k import annotation_of, read_objects
from sama_plugin.data.library import Library
from sama_plugin.data.report import RecordReport, Report
from sama_plugin.dialog.sample import Media, Sample, Turn
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.errors import ConfigError, DataError

PathLike = Union[str, Path]

DESCRIBE = (
    f"Please give a detailed description of the highlighted object {REGION_MARK} in the video."
)
LETTER_ONLY = "Answer with the option's letter from the given choices directly."

_LETTER = re.compile(r"\s*\(?([A-Z])\b")


def read(
    path: PathLike,
    root: PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    mode: str = "single",
) -> Iterator[Sample]:
    """Samples of a -D or -Q file (told apart by the field `Question`); see `data.formats.Format`.

    Args:
        mode: "single" (regions on `frame_idx`) or "multi" (on every annotated frame).
    """
    if mode not in ("single", "multi"):
        raise ConfigError(f"unknown mode {mode!r} of videorefer_bench; known: multi, single")
    parse_here = functools.partial(parse, mode=mode)
    return read_records(path, root, parse_here, report, probe)


def parse(
    record: Mapping[str, Any],
    library: Library,
    report: RecordReport,
    source: str = "",
    *,
    mode: str,
) -> Sample:
    """One record as a Sample."""
    multiple_choice = "Question" in record
    needed = ("Question", "options", "Answer") if multiple_choice else ("caption",)
    for field in (*needed, "video", "annotation"):
        if record.get(field) is None:
            raise DataError("a required field is absent", field=field, reason="missing_field")
    question = choices(record) if multiple_choice else DESCRIBE
    answer = letter(record["Answer"]) if multiple_choice else record["caption"]
    annotation = record["annotation"]
    marks = question.count(REGION_MARK)
    if marks != len(annotation):
        raise DataError(
            f"{marks} {REGION_MARK} in the text for {len(annotation)} objects",
            field="annotation",
            reason="region_count_mismatch",
        )
    media = Media("video", library.find(record["video"]))
    keep = _single_frame(record) if mode == "single" else None
    regions = read_objects(record, annotation, media, library, report, keep)
    if not all(region.prompts for region in regions):
        words = f"an object has no mask on frame {keep}; it is asked about as not there"
        report.note(DataError(words, field="annotation", reason="all_masks_absent"))
    turn = Turn(question, answer, tuple(regions))
    tags = (record["type"],) if record.get("type") else ()
    return Sample(str(record.get("id")), media, (turn,), source=source, tags=tags).validate()


def choices(record: Mapping[str, Any]) -> str:
    """Question, options and the request for a letter, as the public protocol words them."""
    return f"{record['Question']} {' '.join(record['options'])}. {LETTER_ONLY}"


def letter(answer: str) -> str:
    """ "A" from "(A) Flying"."""
    match = _LETTER.match(answer)
    if match is None:
        raise DataError(
            "the answer starts with no letter", field="Answer", found=answer, reason="missing_field"
        )
    return match.group(1)


def write(samples: Iterable[Sample], path: PathLike, root: PathLike) -> int:
    """Write single-turn samples about regions; -Q where the question has options."""
    records = [_record(number, sample, root) for number, sample in enumerate(samples)]
    files.write_json(path, records)
    return len(records)


def _single_frame(record: Mapping[str, Any]) -> str:
    if record.get("frame_idx") is None:
        raise DataError("a required field is absent", field="frame_idx", reason="missing_field")
    key = str(record["frame_idx"])
    if not all(key in entry for entry in record["annotation"]):
        raise DataError(
            "frame_idx is not a key of every object",
            field="frame_idx",
            found=key,
            expected=f"one of {sorted(record['annotation'][0])[:8]}",
            reason="frame_idx_not_annotated",
        )
    return key


def _record(number: int, sample: Sample, root: PathLike) -> dict[str, Any]:
    (turn,) = sample.turns
    annotation = [annotation_of(region, sample.id) for region in turn.regions]
    shared = set.intersection(*(set(entry) for entry in annotation)) if annotation else set()
    if not shared:
        raise DataError("the regions share no frame", record=sample.id, reason="no_objects")
    record: dict[str, Any] = {"id": number, "video": files.relative(sample.media.sources[0], root)}
    if turn.user.endswith(LETTER_ONLY):
        stem, *options = re.split(r" (?=\([A-Z]\) )", turn.user[: -len(LETTER_ONLY)].rstrip(". "))
        record |= {
            "Question": stem,
            "type": sample.tags[0] if sample.tags else "",
            "options": options,
        }
        record["Answer"] = next(text for text in options if letter(text) == turn.assistant)
    else:
        record["caption"] = turn.assistant
    record["frame_idx"] = min(shared, key=int)
    record["annotation"] = annotation
    return record
