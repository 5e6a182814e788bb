"""Expressions whose `anno_id` lists entries of a mask dictionary: the layout of MeViS and ReVOS.

Frames may be listed in any order; mask lists follow the sorted one. Expression ids are read in
text order ("10" before "2"). Several annotation ids mean their union, none means that nothing in
the video fits: a plain answer without [SEG]. Without a dictionary the expressions are a
benchmark's open questions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence

from sama_plugin.data.formats import expressions, files
from sama_plugin.data.formats.listed_clip import ListedClip, entries_of, load_mask_dictionary
from sama_plugin.data.library import Library
from sama_plugin.data.report import (
    MALFORMED,
    RecordReport,
    Report,
    Strict,
    count_entries,
)
from sama_plugin.dialog.sample import Sample, Turn
from sama_plugin.errors import DataError

Dictionary = Mapping[str, Sequence[Any]]

__all__ = ["expressions_of", "frame_size", "read", "videos"]


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    masks: Optional[files.PathLike] = None,
    folders: Optional[Mapping[str, str]] = None,
    expressions_per_sample: int = 5,
    kinds: Optional[Mapping[Any, str]] = None,
) -> Iterator[Sample]:
    """Samples of a `meta_expressions.json`; see `data.formats.Format`.

    Args:
        root: folder that holds one frame folder a video.
        masks: the mask dictionary; default `mask_dict.json` or `.pkl` beside `path`, if any.
        folders: video name to path below `root`, where they differ.
        expressions_per_sample: consecutive expressions of a video that share a conversation.
        kinds: `type_id` to the tag that open questions and single expressions carry.
    """
    report, library = report or Strict(), Library(root, probe)
    found = masks or _beside(Path(path))
    dictionary = load_mask_dictionary(found) if found else None
    for name, video in videos(path).items():
        local = RecordReport(report, str(path), name, count_entries(video, "expressions"))
        try:
            asked, size = expressions_of(video), frame_size(video)
            folder = (folders or {}).get(name, name)
            clip = ListedClip(folder, sorted(map(str, video["frames"])), library, size)
        except MALFORMED as error:
            local.drop(error)
            continue
        turns = []
        for key in sorted(asked):
            try:
                turn, kind = _turn(asked[key], clip, dictionary), asked[key].get("type_id")
                turns.append((key, turn, (kinds or {}).get(kind)))
            except MALFORMED as error:
                local.drop(error, f"expressions[{key!r}]")
        for remark in clip.remarks:
            local.note(remark)
        yield from _samples(name, clip, turns, expressions_per_sample, str(path))


def videos(path: files.PathLike) -> Mapping[str, Any]:
    """The `videos` mapping of a `meta_expressions.json`."""
    found = files.load_mapping(path).get("videos")
    if not isinstance(found, Mapping):
        raise DataError(
            "the file has no videos",
            file=str(path),
            field="videos",
            found=type(found).__name__,
            expected="a mapping from video name to expressions and frames",
            reason="missing_field",
        )
    return found


def expressions_of(video: Mapping[str, Any]) -> Mapping[str, Any]:
    """The expressions of a video by id; none is an empty mapping, not an absent one."""
    found = video["expressions"]
    if not isinstance(found, Mapping):
        raise DataError(
            "the video has no expressions",
            field="expressions",
            found=type(found).__name__,
            expected="a mapping from id to expression",
            reason="bad_field",
        )
    return found


def frame_size(video: Mapping[str, Any]) -> Optional[tuple[int, int]]:
    """(height, width) where the entry says it."""
    if video.get("height") and video.get("width"):
        return int(video["height"]), int(video["width"])
    return None


def _beside(path: Path) -> Optional[Path]:
    candidates = [path.with_name(name) for name in ("mask_dict.json", "mask_dict.pkl")]
    return next((file for file in candidates if file.is_file()), None)


def _turn(entry: Mapping[str, Any], clip: ListedClip, dictionary: Optional[Dictionary]) -> Turn:
    expression = str(entry.get("exp") or "").strip()
    if not expression:
        raise DataError("the expression is empty", reason="empty_expression")
    if dictionary is None:
        return expressions.turn(expression, None, answered=False)
    if not isinstance(entry.get("anno_id"), list):
        raise DataError(
            "anno_id is no list of annotation ids",
            found=entry.get("anno_id"),
            reason="missing_field",
        )
    if not entry["anno_id"]:
        return expressions.absent(expression)
    lists = [entries_of(dictionary, number) for number in entry["anno_id"]]
    return expressions.turn(expression, clip.track(*lists))


def _samples(
    name: str,
    clip: ListedClip,
    turns: Sequence[tuple[str, Turn, Optional[str]]],
    expressions_per_sample: int,
    source: str,
) -> Iterator[Sample]:
    size = expressions_per_sample if turns and turns[0][1].assistant is not None else 1
    for start in range(0, len(turns), size):
        keys, group, kinds = zip(*turns[start : start + size])
        tags = tuple(dict.fromkeys(kind for kind in kinds if kind))
        sample = Sample(f"{name}#{keys[0]}", clip.media, tuple(group), source=source, tags=tags)
        yield sample.validate()
