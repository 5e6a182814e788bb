"""SAMA-239K: grounded conversations and object descriptions over five video datasets (SAMA section
4.1).

A record is a video with a conversation and descriptions. The conversation is cut into chunks of
`turns_per_sample` turns, descriptions are grouped by `descriptions_per_sample`; each becomes one
Sample. Bad turns are dropped one by one. Against the public loader: older [SEG] spellings are
rewritten before they are counted, empty ground-truth groups are skipped and not replaced by the
previous mask, and chunks without [SEG] are kept unless `keep_plain` is off.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Optional, Sequence, Union

from sama_plugin.data.formats import files, sama_writing
from sama_plugin.data.formats.sama_clip import Dictionaries, SamaClip, open_clip
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict, count_entries
from sama_plugin.dialog.parse import canonical, canonical_question, parse_answer
from sama_plugin.dialog.sample import Sample, Target, Turn
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.errors import DataError

PathLike = Union[str, Path]

SUFFIX = " Response with interleaved segmentation masks."
"""Asks for masks; added to every question whose answer has [SEG]."""

DESCRIBE = (
    "Please describe the object {} in the video in detail.",
    "What can you say about {} in this video?",
    "Tell me about {}: what it looks like and what it does.",
    "Describe what happens to {} from the beginning to the end.",
    "Give a detailed account of {} in the clip.",
    "Look at {}. What is it, and how does it behave?",
)

_OBJECT = re.compile(r"obj(\d+)")


def read(
    path: PathLike,
    root: PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    masks: Union[PathLike, Mapping[str, PathLike], None] = None,
    turns_per_sample: int = 4,
    descriptions_per_sample: int = 3,
    keep_plain: bool = True,
) -> Iterator[Sample]:
    """Samples of a SAMA-239K file; see `data.formats.Format`.

    Args:
        masks: folder of the mask dictionaries (default: beside `path`), one file, or one file a
            dataset.
        keep_plain: keep chunks without any [SEG].
    """
    report, library = report or Strict(), Library(root, probe)
    dictionaries = Dictionaries(masks if masks is not None else Path(path).parent)
    for number, record in enumerate(files.load_records(path)):
        name = f"{record.get('video_id', number)}"
        pairs, described = (count_entries(record, f) for f in ("conversation", "description"))
        local = RecordReport(report, str(path), name, pairs // 2 + described)
        try:
            clip = open_clip(record, library, dictionaries)
            chunks = list(_chunks(record, clip, local, turns_per_sample))
            turns = list(_descriptions(record, clip, local, name))
        except MALFORMED as error:
            local.drop(error)
            continue
        parts = [(f"c{index}", chunk) for index, chunk in chunks]
        for start in range(0, len(turns), descriptions_per_sample):
            group = tuple(turns[start : start + descriptions_per_sample])
            parts.append((f"d{start // descriptions_per_sample}", group))
        for part, group in parts:
            if keep_plain or part.startswith("d") or any(turn.targets for turn in group):
                yield Sample(f"{name}#{part}", clip.media, group, source=str(path)).validate()
            else:
                plain = DataError(f"chunk {part} has no [SEG]", reason="no_seg_in_chunk")
                local.note(plain, "conversation")


def write(samples: Iterable[Sample], path: PathLike, root: PathLike) -> int:
    """Write samples whose regions are masks, one record each, and the mask dictionaries beside."""
    return sama_writing.write(samples, path, root, describe=DESCRIBE)


def _chunks(
    record: Mapping[str, Any], clip: SamaClip, local: RecordReport, size: int
) -> Iterator[tuple[int, tuple[Turn, ...]]]:
    if not record.get("conversation"):
        local.note(DataError("no conversation", reason="no_conversation"))
        return
    for index, group in enumerate(turn_groups(record, local, size)):
        turns = []
        for number, question, answer in group:
            try:
                turns.append(grounded_turn(record, clip, number, question, answer))
            except MALFORMED as error:
                local.drop(error, f"conversation[{2 * number}]")
        if turns:
            yield index, tuple(turns)


def turn_groups(
    record: Mapping[str, Any], local: RecordReport, size: int
) -> Iterator[list[tuple[int, Mapping[str, Any], Mapping[str, Any]]]]:
    """The conversation as numbered (question, answer) pairs, `size` at a time; no odd tail."""
    messages = record["conversation"]
    if not isinstance(messages, list):
        raise DataError("no list", field="conversation", found=messages, reason="bad_field")
    for field in ("obj_masks", "groundtruth"):
        if record.get(field) is None:
            raise DataError("a required field is absent", field=field, reason="missing_field")
    if len(messages) % 2:
        local.note(DataError("the last message has no partner", reason="odd_tail"), "conversation")
    pairs = [
        (number, messages[2 * number], messages[2 * number + 1])
        for number in range(len(messages) // 2)
    ]
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]


def grounded_turn(
    record: Mapping[str, Any],
    clip: SamaClip,
    number: int,
    question: Mapping[str, Any],
    answer: Mapping[str, Any],
) -> Turn:
    """One turn with its regions and targets; DataError when marks and annotation disagree."""
    if (question.get("from"), answer.get("from")) != ("human", "gpt"):
        raise DataError(
            "a turn should be human, then gpt",
            found=(question.get("from"), answer.get("from")),
            reason="role_order",
        )
    user, assistant = canonical_question(question["value"]), canonical(answer["value"])
    ids = _at(record["obj_masks"], number)
    groups = [group for group in _at(record["groundtruth"], number) if group]
    if user.count(REGION_MARK) != len(ids):
        raise DataError(
            f"{user.count(REGION_MARK)} <mask> in the question for {len(ids)} region ids",
            found=question["value"],
            reason="mask_count_mismatch",
        )
    parsed = parse_answer(assistant)
    if parsed.n_seg != len(groups):
        raise DataError(
            f"{parsed.n_seg} [SEG] in the answer for {len(groups)} groups of masks",
            found=answer["value"],
            reason="seg_count_mismatch",
        )
    if groups and SUFFIX.strip().split("with ", 1)[1] not in user:
        user += SUFFIX
    return Turn(
        user,
        assistant,
        regions=tuple(clip.region(identity) for identity in ids),
        targets=tuple(
            Target(phrase.text, clip.track(group)) for phrase, group in zip(parsed.grounded, groups)
        ),
    )


def described_objects(
    record: Mapping[str, Any], clip: SamaClip, local: RecordReport
) -> Iterator[tuple[str, str, Any]]:
    """(key, text, annotation id) of every usable description."""
    known = record.get("anno_map") or []
    for key, text in (record.get("description") or {}).items():
        try:
            if not isinstance(text, str) or not text.strip():
                raise DataError("no description", found=text, reason="empty_expression")
            yield key, text, _object_id(key, known)
        except MALFORMED as error:
            local.drop(error, f"description[{key!r}]")


def _descriptions(
    record: Mapping[str, Any], clip: SamaClip, local: RecordReport, name: str
) -> Iterator[Turn]:
    for key, text, identity in described_objects(record, clip, local):
        template = DESCRIBE[zlib.crc32(f"{name}{key}".encode()) % len(DESCRIBE)]
        try:
            region = clip.region(identity)
        except MALFORMED as error:
            local.drop(error, f"description[{key!r}]")
            continue
        yield Turn(template.format(REGION_MARK), text, regions=(region,))


def _object_id(key: str, known: Sequence[Any]) -> Any:
    match = _OBJECT.search(key)
    if match is None:
        raise DataError(
            "the key names no object", found=key, expected="<objN>", reason="bad_object_key"
        )
    index = int(match.group(1))
    if index >= len(known):
        raise DataError(
            "the key points behind the end of anno_map",
            found=key,
            expected=f"at most <obj{len(known) - 1}>",
            reason="object_index_out_of_range",
        )
    if known[index] == -1:
        raise DataError("the object has no mask", found=key, reason="object_without_mask")
    return known[index]


def _at(lists: Sequence[Any], number: int) -> Sequence[Any]:
    return lists[number] if number < len(lists) else ()
