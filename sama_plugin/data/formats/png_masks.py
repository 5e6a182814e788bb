"""Frames and PNG masks in folders: the layout of DAVIS and YouTube-VOS, and what most teams have.

    JPEGImages/CLIP/00000.jpg ...     `root`; a CLIP.mp4 with numbered masks also serves
    Annotations/CLIP/00000.png ...    `path`; the pixel value is the object, 0 is background
    Annotations/CLIP/OBJECT/00000.png   or one black-and-white picture an object and frame

Frames without a picture have unknown masks. Objects get words from `names.json` beside or in
`path`, `{"CLIP": {"1": "the red car"}}`, or by YouTube-VOS' `meta.json`; the name of an OBJECT
folder is its words, `_` for a space. Objects without words are pointed at on the frame where they
are first seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Mapping, Optional

import numpy as np

from sama_plugin.data.formats import expressions, files
from sama_plugin.data.formats.listed_clip import ListedClip
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import DataError, SamaError
from sama_plugin.media import masks
from sama_plugin.media.masks import RLE
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.media.video import natural_key

VOID = 255
"""Pixels of this value in an index picture belong to nobody."""


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    names: Optional[files.PathLike] = None,
) -> Iterator[Sample]:
    """One sample a clip; see `data.formats.Format`.

    Args:
        path: folder with one folder of masks a clip.
        root: folder with the clips.
        names: JSON file of words; default `names.json` or `meta.json` in or beside `path`.
    """
    report, library, folder = report or Strict(), Library(root, probe), Path(path)
    clips = sorted(entry for entry in _entries(folder) if entry.is_dir())
    if not clips:
        raise DataError("no folder of masks in it", file=str(path), reason="no_samples")
    words = _words(folder, names)
    for clip_folder in clips:
        local = RecordReport(report, str(path), clip_folder.name)
        try:
            tracks = _tracks(clip_folder, library, words.get(clip_folder.name, {}))
        except MALFORMED as error:
            local.drop(error)
            continue
        media, found = tracks
        turns = tuple(expressions.objects(found))
        yield Sample(clip_folder.name, media, turns, source=str(path)).validate()


def _tracks(folder: Path, library: Library, words: Mapping[str, str]) -> tuple[Any, list]:
    """The clip's media, and (words, track) of every object that is drawn somewhere."""
    separate = [entry for entry in _entries(folder) if entry.is_dir()]
    found: dict[str, dict[str, Optional[RLE]]] = {}
    for place in separate or [folder]:
        for file in sorted(place.glob("*.png"), key=lambda file: natural_key(file.name)):
            labels = _read(file)
            if separate:
                found.setdefault(place.name, {})[file.stem] = masks.encode(labels > 0)
                continue
            for value in np.unique(labels[(labels != 0) & (labels != VOID)]).tolist():
                found.setdefault(str(value), {})[file.stem] = masks.encode(labels == value)
    if not found:
        raise DataError("nothing is drawn", found=str(folder), reason="all_masks_absent")
    drawn = {file.stem for file in folder.rglob("*.png")}
    stems = sorted(drawn, key=natural_key)
    clip = ListedClip(folder.name, stems, library)
    spoken = {name: name.replace("_", " ") for name in found} if separate else {}
    named = {**spoken, **words}
    tracks: list[tuple[str, MaskTrack]] = []
    for value in sorted(found, key=natural_key):
        rles = found[value]
        if any(rle and masks.area(rle) for rle in rles.values()):
            track = clip.track([rles.get(stem) for stem in stems])
            tracks.append((str(named.get(value, "")), track))
    return clip.media, tracks


def _read(file: Path) -> np.ndarray:
    try:
        return files.load_labels(file)
    except (SamaError, OSError, ValueError) as error:
        raise DataError(
            f"the mask cannot be read: {error}", found=str(file), reason="bad_segmentation"
        ) from error


def _words(folder: Path, names: Optional[files.PathLike]) -> dict[str, dict[str, str]]:
    """Clip name to object to words."""
    places = [
        place / name for name in ("names.json", "meta.json") for place in (folder, folder.parent)
    ]
    path = Path(names) if names else next((file for file in places if file.is_file()), None)
    if path is None:
        return {}
    content = files.load_json(path)
    if "videos" in content:  # YouTube-VOS
        return {
            clip: {value: str(entry["category"]) for value, entry in video["objects"].items()}
            for clip, video in content["videos"].items()
        }
    return {
        clip: {str(value): str(text) for value, text in found.items()}
        for clip, found in content.items()
    }


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"cannot read the folder of masks: {error.strerror or error}",
            file=str(folder),
            reason="missing_file",
        ) from error
