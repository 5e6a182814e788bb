"""The clip behind a SAMA-239K or SAMA-Bench record: its frames, and its objects from a mask
dictionary.

Both files share the layout (SAMA section 4): `frames` lists the annotated frames of a folder (an
mp4 has none and is annotated every 4th frame), a mask dictionary chosen by the video's path maps
annotation ids to one entry a frame. Frame numbers are translated here, once, from positions in that
list to positions in the source.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Union

from sama_plugin.data.formats import files
from sama_plugin.data.formats.listed_clip import load_mask_dictionary
from sama_plugin.data.formats.segmentations import RLE, read_segmentation, resize_nearest
from sama_plugin.data.library import Library
from sama_plugin.dialog.sample import Media, Region
from sama_plugin.errors import DataError
from sama_plugin.media import masks
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack

VIDEO_STRIDE = 4
"""An mp4 is annotated every 4th frame (SA-V), anything else on every frame."""

_DATASETS = ("mevis", "lvvis", "ref_youtube_vos", "VidSTG", "sav")
_FILES = {"ref_youtube_vos": "ref_youtube"}


@dataclass(frozen=True)
class SamaClip:
    """Frames and objects of one record.

    Attributes:
        media: where the pixels are.
        frames: source frame of every annotated frame.
        size: (height, width), or None where it is not known without opening the video.
        total: frames of the source.
        entries: annotation id to one mask entry an annotated frame.
        known: annotation ids the record may use (`anno_map`).
        lenient: benchmark rules: masks of another size are resized, missing frames are empty.
        read: masks of the objects asked for so far, one entry an annotated frame.
        remarks: what those rules had to do.
    """

    media: Media
    frames: tuple[int, ...]
    size: Optional[tuple[int, int]]
    total: int
    entries: Mapping[str, Any]
    known: frozenset[str]
    lenient: bool
    read: dict[str, list[Optional[RLE]]] = field(default_factory=dict)
    remarks: list[DataError] = field(default_factory=list)

    def track(self, ids: Sequence[Any]) -> MaskTrack:
        """Masks over time of the union of annotation ids."""
        lists = [self._masks(str(number)) for number in ids]
        rles: dict[int, Optional[RLE]] = {}
        for frame, parts in zip(self.frames, zip(*lists)):
            present = [part for part in parts if part is not None]
            rles[frame] = (
                (present[0] if len(present) == 1 else masks.merge(present)) if present else None
            )
        size = self.size or next((tuple(rle["size"]) for rle in rles.values() if rle), None)
        if size is None:
            raise DataError("no mask on any frame", found=list(ids), reason="all_masks_absent")
        return MaskTrack(size=tuple(size), total=self.total, rles=rles)

    def region(self, number: Any) -> Region:
        """The object as something pointed at, on every frame where it is visible."""
        rles = zip(self.frames, self._masks(str(number)))
        prompts = tuple(
            RegionPrompt.from_mask(frame, rle) for frame, rle in rles if rle is not None
        )
        if not prompts:
            raise DataError("no mask on any frame", found=number, reason="all_masks_absent")
        return Region(prompts)

    def _masks(self, number: str) -> list[Optional[RLE]]:
        if number not in self.read:
            self.read[number] = self._read(number)
        return self.read[number]

    def _read(self, number: str) -> list[Optional[RLE]]:
        if number not in self.known:
            raise DataError(
                "the annotation id is not listed in anno_map",
                found=number,
                expected=f"one of {sorted(self.known)}",
                reason="id_not_in_anno_map",
            )
        if number not in self.entries:
            raise DataError(
                "the annotation id has no entry in the mask dictionary",
                found=number,
                reason="missing_mask_id",
            )
        found = self.entries[number]
        found = list(found["segmentations"] if isinstance(found, Mapping) else found)
        if len(found) < len(self.frames):
            if not self.lenient:
                raise DataError(
                    f"annotation {number} has fewer masks than the clip has frames",
                    found=len(found),
                    expected=len(self.frames),
                    reason="mask_list_too_short",
                )
            words = "an annotation has fewer masks than the clip has frames; the rest is empty"
            self._remark(words, len(found), len(self.frames), "mask_list_too_short")
            found += [None] * (len(self.frames) - len(found))
        if not self.lenient:
            return [read_segmentation(entry, self.size) for entry in found]
        rles = [read_segmentation(entry) for entry in found]
        if self.size is None:
            return rles
        for size in sorted({tuple(rle["size"]) for rle in rles if rle} - {self.size}):
            self._remark("masks are resized to the clip", size, self.size, "size_mismatch")
        return [resize_nearest(rle, self.size) if rle else rle for rle in rles]

    def _remark(self, message: str, found: Any, expected: Any, reason: str) -> None:
        self.remarks.append(DataError(message, found=found, expected=expected, reason=reason))


def open_clip(
    record: Mapping[str, Any],
    library: Library,
    dictionaries: Dictionaries,
    lenient: bool = False,
) -> SamaClip:
    """The clip of a record.

    Raises:
        DataError: `missing_field`, `missing_media`, `missing_file`, `frame_out_of_range`.
    """
    path = _find(record, library)
    entries = dictionaries.of(str(record["video"]))
    if os.path.isdir(path):
        numbers = library.frame_numbers(path)
        frames = tuple(_number(numbers, stem) for stem in _stems(record, numbers))
        total, stride = len(numbers), 1
    else:
        stride = VIDEO_STRIDE if path.lower().endswith(".mp4") else 1
        longest = max((len(_entry_list(entry)) for entry in _used(record, entries)), default=0)
        total = max(longest - 1, 0) * stride + 1
        facts = library.facts(path)
        frames = tuple(range(0, facts.frames if facts else total, stride))
        total = facts.frames if facts else total
    return SamaClip(
        media=Media("video", path, stride),
        frames=frames,
        size=_size(record, path, library),
        total=total,
        entries=entries,
        known=frozenset(str(number) for number in record.get("anno_map") or () if number != -1),
        lenient=lenient,
    )


class Dictionaries:
    """The mask dictionaries of a dataset folder, each loaded when first needed and only once.

    Args:
        source: folder that holds the files, one file for everything, or a mapping from dataset
            ("mevis", "lvvis", "ref_youtube_vos", "VidSTG", "sav") to file.
    """

    def __init__(self, source: Union[str, Path, Mapping[str, Union[str, Path]]]):
        self.source = source

    def of(self, video: str) -> Mapping[str, Any]:
        """The dictionary for a video path: the first dataset whose name the path holds decides."""
        one = not isinstance(self.source, Mapping) and Path(self.source).is_file()
        path = str(self.source) if one else self._file(dataset_of(video))
        files.note_opened(path)  # it may be known from before
        return _load_dictionary(*_version(path))

    def _file(self, dataset: str) -> str:
        if isinstance(self.source, Mapping):
            return str(self.source[dataset])
        start = _FILES.get(dataset, dataset).lower()
        found = sorted(
            path
            for path in Path(self.source).glob("*mask_dict*")
            if path.name.lower().startswith(start) and path.suffix in (".json", ".pkl")
        )
        if not found:
            raise DataError(
                f"no mask dictionary for {dataset}",
                file=str(self.source),
                expected=f"a file {start}*mask_dict*.json or .pkl",
                reason="missing_file",
            )
        return str(found[0])


def dataset_of(video: str) -> str:
    """The dataset whose mask dictionary belongs to a video: the first whose name its path holds."""
    for dataset in _DATASETS:
        if dataset in video:
            return dataset
    raise DataError(
        "no mask dictionary belongs to this path",
        field="video",
        found=video,
        expected=f"a path that holds one of {', '.join(_DATASETS)}",
        reason="missing_mask_id",
    )


def dictionary_name(dataset: str) -> str:
    """File name under which a writer stores the masks of a dataset, so that readers find it."""
    return f"{_FILES.get(dataset, dataset)}_mask_dict.json"


def _version(path: str) -> tuple[str, int]:
    return path, os.stat(path).st_mtime_ns if os.path.exists(path) else 0


@lru_cache(maxsize=8)
def _load_dictionary(path: str, changed: int) -> Mapping[str, Any]:
    return load_mask_dictionary(path)


def _find(record: Mapping[str, Any], library: Library) -> str:
    video = record.get("video")
    try:
        return library.find(video)
    except DataError as error:
        name = str(video).rsplit("/", 1)[-1]
        if error.reason != "missing_media" or not name.isdigit():
            raise
        return library.find(str(video)[: -len(name)] + name.zfill(5))  # LV-VIS writes 42 for 00042


def _stems(record: Mapping[str, Any], numbers: Mapping[str, int]) -> list[str]:
    frames = record.get("frames")
    if frames is None:
        return list(numbers)
    names = [
        frame["raw_filename"] if isinstance(frame, Mapping) else str(frame) for frame in frames
    ]
    return [name.rsplit(".", 1)[0] if "." in name else name for name in names]


def _number(numbers: Mapping[str, int], stem: str) -> int:
    if stem not in numbers:
        raise DataError(
            "a listed frame is not in the folder",
            field="frames",
            found=stem,
            reason="frame_out_of_range",
        )
    return numbers[stem]


def _entry_list(entry: Any) -> Sequence[Any]:
    return entry["segmentations"] if isinstance(entry, Mapping) else entry


def _used(record: Mapping[str, Any], entries: Mapping[str, Any]) -> list[Any]:
    found = [entries.get(str(number)) for number in record.get("anno_map") or ()]
    return [entry for entry in found if entry is not None]


def _size(record: Mapping[str, Any], path: str, library: Library) -> Optional[tuple[int, int]]:
    if record.get("height") and record.get("width"):
        return int(record["height"]), int(record["width"])
    facts = library.facts(path)
    return (facts.height, facts.width) if facts else None
