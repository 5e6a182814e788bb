"""SAMA-Bench: grounded questions (SAMA-Bench-G) and region descriptions (SAMA-Bench-C), one
single-turn Sample each.

The record layout is that of SAMA-239K plus `question_id` and `description_id`; dictionaries may be
wrapped, mask lists shorter than the clip (missing frames are empty) and of another size (nearest
resize), as in the public protocol. Sample ids are the benchmark's own ids. Used by `eval` and `sama
data`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Optional, Union

from sama_plugin.data.formats import files, sama_writing
from sama_plugin.data.formats.sama_239k import described_objects, grounded_turn, turn_groups
from sama_plugin.data.formats.sama_clip import Dictionaries, SamaClip, open_clip
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict, count_entries
from sama_plugin.dialog.sample import Sample, Turn
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.errors import DataError

PathLike = Union[str, Path]

DESCRIBE = f"Please describe the region {REGION_MARK} in the video in detail."
TASKS = ("questions", "descriptions")


def read(
    path: PathLike,
    root: PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    masks: Union[PathLike, Mapping[str, PathLike], None] = None,
    tasks: tuple[str, ...] = TASKS,
) -> Iterator[Sample]:
    """Samples of one SAMA-Bench shard; see `data.formats.Format`.

    Args:
        masks: folder of the mask dictionaries (default: beside `path`), one file, or one file a
            dataset.
        tasks: "questions", "descriptions" or both.
    """
    report, library = report or Strict(), Library(root, probe)
    dictionaries = Dictionaries(masks if masks is not None else Path(path).parent)
    for number, record in enumerate(files.load_records(path)):
        name = record.get("video_id", number)
        local = RecordReport(report, str(path), name, _asked(record, tasks))
        try:
            clip = open_clip(record, library, dictionaries, lenient=True)
            items = list(_items(record, clip, local, tasks))
        except MALFORMED as error:
            local.drop(error)
            continue
        for remark in clip.remarks:
            local.note(remark)
        for name, turn in items:
            yield Sample(name, clip.media, (turn,), source=str(path)).validate()


def write(samples: Iterable[Sample], path: PathLike, root: PathLike) -> int:
    """Write samples whose regions are masks, one record each; its turns become single questions."""
    return sama_writing.write(samples, path, root, describe=(DESCRIBE,), numbered=True)


def _asked(record: Mapping[str, Any], tasks: tuple[str, ...]) -> int:
    """Questions of a record."""
    pairs = count_entries(record, "conversation") // 2 if "questions" in tasks else 0
    return pairs + (count_entries(record, "description") if "descriptions" in tasks else 0)


def _items(
    record: Mapping[str, Any], clip: SamaClip, local: RecordReport, tasks: tuple[str, ...]
) -> Iterator[tuple[str, Turn]]:
    if "questions" in tasks:
        for ((number, question, answer),) in turn_groups(record, local, 1):
            try:
                yield (
                    str(question["question_id"]),
                    grounded_turn(record, clip, number, question, answer),
                )
            except MALFORMED as error:
                named = RecordReport(local.report, local.file, question.get("question_id"))
                named.drop(error, f"conversation[{2 * number}]")
    if "descriptions" in tasks:
        names = record.get("description_id") or {}
        for key, text, identity in described_objects(record, clip, local):
            try:
                yield str(names[key]), Turn(DESCRIBE, text, regions=(clip.region(identity),))
            except (DataError, KeyError) as error:
                missing = DataError(
                    "a description has no id",
                    field="description_id",
                    found=key,
                    reason="missing_field",
                )
                local.drop(
                    error if isinstance(error, DataError) else missing, f"description[{key!r}]"
                )
