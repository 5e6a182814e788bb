"""Ref-YouTube-VOS: expressions about objects of a video, masks in a counter-keyed dictionary or in
palette PNGs.

`meta_expressions.json` lists the annotated frames of every video and its expressions. Masks are
found either in `mask_dict.json|pkl` beside it, keyed by a running counter (videos in file order,
expression ids sorted as text, so "10" before "2"), or in `Annotations/<video>/<frame>.png`, where
the pixel value is `obj_id`. The valid split has neither: its expressions become open questions.
Frames between the annotated ones have unknown masks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Optional, Union

from sama_plugin.data.formats import expressions, files
from sama_plugin.data.formats.listed_clip import ListedClip, entries_of, load_mask_dictionary
from sama_plugin.data.formats.video_expressions import expressions_of, videos
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict, count_entries
from sama_plugin.dialog.sample import Sample, Turn
from sama_plugin.errors import DataError
from sama_plugin.media import masks as mask_files
from sama_plugin.media.tracks import MaskTrack

PathLike = Union[str, Path]


def read(
    path: PathLike,
    root: PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    masks: str = "auto",
    folders: Optional[Mapping[str, str]] = None,
    expressions_per_sample: int = 5,
    counted: str = "file",
) -> Iterator[Sample]:
    """Samples of a `meta_expressions.json`; see `data.formats.Format`.

    Args:
        root: folder that holds one frame folder a video.
        masks: "dictionary", "png", or "auto" (the dictionary where there is one).
        folders: video name to path below `root`, where they differ.
        expressions_per_sample: consecutive expressions of a video that share a conversation.
        counted: order of the videos in which the dictionary counts expressions, "file" or "sorted".
    """
    report, library = report or Strict(), Library(root, probe)
    found = videos(path)
    dictionary = _dictionary(Path(path).parent) if masks != "png" else None
    if dictionary is None and masks == "dictionary":
        raise DataError(
            "no mask_dict.json or .pkl beside it", file=str(path), reason="missing_file"
        )
    if dictionary is not None:
        check_count(found, dictionary, path)
    counter = 0
    for name in sorted(found) if counted == "sorted" else found:
        video = found[name]
        local = RecordReport(report, str(path), name, count_entries(video, "expressions"))
        first, counter = counter, counter + count_entries(video, "expressions")
        try:
            asked = expressions_of(video)
            clip = _Clip(name, video, Path(path).parent, library, (folders or {}).get(name, name))
        except MALFORMED as error:
            local.drop(error)
            continue
        turns = []
        for offset, key in enumerate(sorted(asked)):
            try:
                turns.append(_turn(asked[key], clip, dictionary, first + offset))
            except MALFORMED as error:
                local.drop(error, f"expressions[{key!r}]")
        for remark in clip.remarks:
            local.note(remark)
        for start in range(0, len(turns), expressions_per_sample):
            group = tuple(turns[start : start + expressions_per_sample])
            if group[0].assistant is None:
                for index, turn in enumerate(group, start):
                    yield Sample(f"{name}#{index}", clip.media, (turn,), source=str(path))
            else:
                yield Sample(f"{name}#{start}", clip.media, group, source=str(path)).validate()


def check_count(found: Mapping[str, Any], dictionary: Mapping[str, Any], path: PathLike) -> None:
    """A running count over a list that was cut gives every later expression another one's mask."""
    asked = sum(count_entries(video, "expressions") for video in found.values())
    if len(dictionary) > asked:
        raise DataError(
            f"{asked} expressions, and {len(dictionary)} masks in the dictionary beside it, which "
            "is keyed by a running count over them: with some expressions taken out, the others "
            "would get wrong masks. Take the dictionary's entries out too and count them anew",
            file=str(path),
            reason="mask_count",
        )


def write(samples: Iterable[Sample], path: PathLike, root: PathLike) -> int:
    """Write grounding samples (one target a turn, no regions): `meta_expressions.json` and
    `mask_dict.json`.

    Samples of one video are joined; media must be frame folders or arrays directly below `root`.
    Returns the number of expressions.
    """
    videos: dict[str, dict[str, Any]] = {}
    tracks: dict[str, list[MaskTrack]] = {}
    for sample in samples:
        name = os.path.splitext(files.relative(sample.media.sources[0], root))[0]
        for turn in sample.turns:
            (target,) = turn.targets
            frames = [f"{frame:05d}" for frame in range(target.track.total)]
            video = videos.setdefault(name, {"expressions": {}, "frames": frames})
            entry = {"exp": target.phrase, "obj_id": "1"}
            video["expressions"][str(len(video["expressions"]))] = entry
            tracks.setdefault(name, []).append(target.track)
    dictionary: dict[str, Any] = {}
    for name, video in videos.items():
        for key in sorted(video["expressions"]):
            track = tracks[name][int(key)]
            dictionary[str(len(dictionary))] = [track.rles.get(i) for i in range(track.total)]
    files.write_json(path, {"videos": videos})
    files.write_json(Path(path).with_name("mask_dict.json"), dictionary)
    return len(dictionary)


class _Clip(ListedClip):
    """A listed clip whose masks may also be palette pictures."""

    def __init__(
        self, name: str, video: Mapping[str, Any], folder: Path, library: Library, path: str
    ):
        super().__init__(path, video["frames"], library)
        self.annotations = folder / "Annotations" / name
        self._png: dict[str, MaskTrack] = {}

    def png_track(self, value: str) -> MaskTrack:
        """Masks of the pixels of one palette value."""
        if value not in self._png:
            found = [self.annotations / f"{stem}.png" for stem in self.stems]
            missing = [file for file in found if not file.is_file()]
            if missing:
                raise DataError(
                    "an annotation image is missing",
                    found=str(missing[0]),
                    reason="missing_mask_id",
                )
            labels = [files.load_labels(file) for file in found]
            self._png[value] = self.track(
                [mask_files.encode(label == int(value)) for label in labels]
            )
        return self._png[value]


def _turn(
    entry: Mapping[str, Any], clip: _Clip, dictionary: Optional[Mapping[str, Any]], counter: int
) -> Turn:
    expression = entry.get("exp") or ""
    if not expression.strip():
        raise DataError("the expression is empty", reason="empty_expression")
    if dictionary is None and "obj_id" not in entry:
        return expressions.turn(expression, None, answered=False)
    if dictionary is None:
        return expressions.turn(expression, clip.png_track(str(entry["obj_id"])))
    return expressions.turn(expression, clip.track(entries_of(dictionary, counter)))


def _dictionary(folder: Path) -> Optional[Mapping[str, Any]]:
    for name in ("mask_dict.json", "mask_dict.pkl"):
        if (folder / name).is_file():
            return load_mask_dictionary(folder / name)
    return None
