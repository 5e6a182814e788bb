"""InternVL's conversation JSONL and the meta JSON that lists such files with their roots and
repeats.

A record has `image` (a path or a list of paths), `video` or neither, and `conversations` with an
optional system message. Records may carry our own optional keys `regions` and `targets`, one list a
turn in the shape of `Sample.to_json`; a host that does not know them reads the same file as plain
chat. Used for plain chat in mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Optional, Union

from sama_plugin.data.formats import files
from sama_plugin.data.formats.messages import in_turns
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict, as_data_error
from sama_plugin.dialog.sample import IMAGE_MARK, Sample
from sama_plugin.errors import DataError

PathLike = Union[str, Path]

VIDEO_MARK = "<video>"


@dataclass(frozen=True)
class Entry:
    """One dataset of a meta file; paths as the file spells them."""

    name: str
    root: str
    annotation: str
    repeat: float
    length: Optional[int]

    def count(self, lines: int) -> int:
        """Samples after repeating: whole repeats, or a part from the front."""
        return lines * int(self.repeat) if self.repeat >= 1 else int(lines * self.repeat)


def read(
    path: PathLike, root: PathLike, *, report: Optional[Report] = None, probe: bool = True
) -> Iterator[Sample]:
    """Samples of a meta JSON, or of one JSONL file; see `data.formats.Format`.

    Args:
        root: for a meta file the folder its paths start from, for a JSONL file the media folder.
    """
    report = report or Strict()
    if str(path).endswith(".jsonl"):
        yield from _read_lines(path, Library(root, probe), report, "")
        return
    for entry in entries(path):
        local = RecordReport(report, str(path), entry.name)
        annotation = Path(root) / entry.annotation
        if not annotation.is_file():
            local.drop(
                DataError(
                    "the annotation file does not exist",
                    field="annotation",
                    found=str(annotation),
                    reason="missing_file",
                )
            )
            continue
        numbered = sum(1 for _ in files.lines(annotation))
        if entry.length is not None and entry.length != numbered:
            local.note(
                DataError(
                    "the stated length is wrong",
                    field="length",
                    found=entry.length,
                    expected=numbered,
                    reason="wrong_length",
                )
            )
        library = Library(Path(root) / entry.root, probe)
        samples = list(_read_lines(annotation, library, report, f"{entry.name}/"))
        kept = samples * int(entry.repeat) if entry.repeat >= 1 else samples
        yield from kept[: entry.count(numbered)] if entry.repeat < 1 else kept


def entries(path: PathLike) -> list[Entry]:
    """The datasets of a meta file, without reading them."""
    found = []
    for name, item in files.load_mapping(path).items():
        for field in ("root", "annotation"):
            if not isinstance(item, Mapping) or field not in item:
                raise DataError(
                    "a required field is absent",
                    file=str(path),
                    record=name,
                    field=field,
                    reason="missing_field",
                )
        repeat = item.get("repeat_time", 1)
        if not isinstance(repeat, (int, float)) or repeat < 0:
            raise DataError(
                "how often a dataset is repeated is a number from 0 on",
                file=str(path),
                record=name,
                field="repeat_time",
                found=repeat,
                reason="bad_field",
            )
        length = item.get("length")
        found.append(Entry(name, item["root"], item["annotation"], float(repeat), length))
    return found


def parse(
    record: Mapping[str, Any],
    library: Library,
    report: RecordReport,
    source: str = "",
    prefix: str = "",
) -> Sample:
    """One line as a Sample."""
    if not record.get("conversations"):
        raise DataError("a required field is absent", field="conversations", reason="missing_field")
    messages = list(record["conversations"])
    system = messages.pop(0)["value"] if messages[0].get("from") == "system" else None
    pairs = in_turns(messages, report)
    questions = [question["value"] for question, _ in pairs]
    media, questions = _media(record, questions, library, report)
    turns = []
    for number, (question, (_, answer)) in enumerate(zip(questions, pairs)):
        turn = {"user": question, "assistant": answer["value"]}
        for key in ("regions", "targets"):
            turn[key] = (record.get(key) or [()] * len(questions))[number]
        turns.append(turn)
    return Sample.from_json(
        {
            "id": f"{prefix}{record.get('id')}",
            "media": media,
            "turns": turns,
            "system": system,
            "source": source,
        }
    )


def write(samples: Iterable[Sample], path: PathLike, root: PathLike) -> int:
    """Write samples as JSONL; returns their number. `write_meta` lists such files."""
    return files.write_lines(path, (_record(sample, root) for sample in samples))


def write_meta(entries_: Iterable[Entry], path: PathLike) -> None:
    """Write a meta file."""
    content = {
        entry.name: {
            "root": entry.root,
            "annotation": entry.annotation,
            "data_augment": False,
            "repeat_time": int(entry.repeat) if entry.repeat >= 1 else entry.repeat,
            "length": entry.length,
        }
        for entry in entries_
    }
    files.write_json(path, content)


def _read_lines(path: PathLike, library: Library, report: Report, prefix: str) -> Iterator[Sample]:
    for number, line in files.lines(path):
        try:
            record = files.parse_line(line)
            local = RecordReport(report, str(path), record.get("id", f"line {number}"))
            yield parse(record, library, local, str(path), prefix)
        except MALFORMED as error:
            report.drop(as_data_error(error).at(file=str(path), record=f"line {number}"))


def _media(
    record: Mapping[str, Any], questions: list[str], library: Library, report: RecordReport
) -> tuple[dict[str, Any], list[str]]:
    """Media and questions without the placeholders that the layout makes superfluous."""
    if record.get("video") is not None:
        path = library.find(record["video"])
        return {"kind": "video", "source": path}, _without(questions, VIDEO_MARK)
    if record.get("image") is None:
        return {"kind": "none"}, questions
    named = record["image"] if isinstance(record["image"], list) else [record["image"]]
    paths = [library.find(name, field="image") for name in named]
    marks = sum(question.count(IMAGE_MARK) for question in questions)
    if marks == 0:
        report.note(
            DataError(
                f"no {IMAGE_MARK} in the text; the images are placed before the first question",
                reason="image_placeholder_mismatch",
            )
        )
        questions = [f"{IMAGE_MARK}\n" * len(paths) + questions[0], *questions[1:]]
    elif marks != len(paths):
        raise DataError(
            f"{marks} {IMAGE_MARK} in the text for {len(paths)} images",
            field="conversations",
            reason="image_placeholder_mismatch",
        )
    if len(paths) > 1:
        return {"kind": "images", "source": paths}, questions
    return {"kind": "image", "source": paths[0]}, _without(questions, IMAGE_MARK)


def _without(questions: list[str], mark: str) -> list[str]:
    clean = []
    for question in questions:
        question = question.replace(f"{mark}\n", "").replace(f"\n{mark}", "")
        clean.append(question.replace(mark, ""))
    return clean


def _record(sample: Sample, root: PathLike) -> dict[str, Any]:
    content = sample.to_json()
    media, turns = sample.media, content["turns"]
    record: dict[str, Any] = {"id": sample.id}
    first = ""
    if media.kind == "video":
        record["video"], first = files.relative(media.sources[0], root), f"{VIDEO_MARK}\n"
    elif media.kind == "image":
        record["image"], first = files.relative(media.sources[0], root), f"{IMAGE_MARK}\n"
    elif media.kind == "images":
        record["image"] = [files.relative(path, root) for path in media.sources]
    record["conversations"] = (
        [{"from": "system", "value": sample.system}] if sample.system is not None else []
    )
    for number, turn in enumerate(turns):
        value = (first if number == 0 else "") + turn["user"]
        record["conversations"].append({"from": "human", "value": value})
        record["conversations"].append({"from": "gpt", "value": turn.get("assistant", "")})
    for key in ("regions", "targets"):
        if any(turn.get(key) for turn in turns):
            record[key] = [turn.get(key, []) for turn in turns]
    return record
