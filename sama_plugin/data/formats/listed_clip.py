"""The clip behind a `meta_expressions.json` entry: its listed frames, and tracks over them.

Ref-YouTube-VOS, MeViS, ReVOS, LV-VIS and VidSTG all name the annotated frames of a folder and keep
one mask entry a listed frame. Frame numbers are translated here, once, from positions in that list
to positions in the source. Frames between the listed ones have unknown masks.
"""

from __future__ import annotations

import os
from typing import Any, Mapping, Optional, Sequence

from sama_plugin.data.formats import files
from sama_plugin.data.formats.segmentations import read_segmentation
from sama_plugin.data.library import Library
from sama_plugin.dialog.sample import Media
from sama_plugin.errors import DataError
from sama_plugin.media import masks
from sama_plugin.media.tracks import MaskTrack

_WRAPPINGS = ("segmentations", "masks_rle")


class ListedClip:
    """A video's media and the source frames of its listed frames.

    Args:
        path: frame folder below the library's root; an `.npy` or `.mp4` of that name also serves.
        stems: names of the annotated frames without suffix, in the order of the mask lists.
        size: (height, width) where the file says it; otherwise that of the clip, and of the first
            mask where that is not known without opening a video.

    Attributes:
        remarks: mask lists that are longer than the list of frames, whose end is left out.
    """

    def __init__(
        self,
        path: str,
        stems: Sequence[str],
        library: Library,
        size: Optional[tuple[int, int]] = None,
    ):
        source = _find(library, path)
        self.stems = [str(stem) for stem in stems]
        self.remarks: list[DataError] = []
        if not self.stems:
            raise DataError("the clip lists no frames", field="frames", reason="missing_field")
        facts = library.facts(source)
        self.size = size or ((facts.height, facts.width) if facts else None)
        if os.path.isdir(source):
            numbers = library.frame_numbers(source)
            self.frames = [_listed(numbers, stem) for stem in self.stems]
            self.total = len(numbers)
        else:
            self.frames = [_number(stem) for stem in self.stems]
            self.total = facts.frames if facts else max(self.frames) + 1
            if min(self.frames) < 0 or max(self.frames) >= self.total:
                raise _outside(max(self.frames))
        self.media = Media("video", source, _stride(self.frames))

    def track(self, *lists: Sequence[Any]) -> MaskTrack:
        """Masks of one object, or the union of several: one entry a listed frame in every list."""
        for entries in lists:
            if len(entries) < len(self.frames):
                raise DataError(
                    "fewer masks than listed frames",
                    found=len(entries),
                    expected=len(self.frames),
                    reason="mask_list_too_short",
                )
            if len(entries) > len(self.frames):
                words = "more masks than listed frames; which frames they are of is a guess"
                counts = {"found": len(entries), "expected": len(self.frames)}
                self.remarks.append(DataError(words, **counts, reason="mask_list_too_long"))
        rles: dict[int, Any] = {}
        for frame, parts in zip(self.frames, zip(*lists)):
            read = [read_segmentation(part, self.size) for part in parts]
            present = [rle for rle in read if rle is not None]
            rles[frame] = (
                (masks.merge(present) if len(present) > 1 else present[0]) if present else None
            )
        size = self.size or next((tuple(rle["size"]) for rle in rles.values() if rle), None)
        if size is None:
            raise DataError("no mask on any frame", reason="all_masks_absent")
        return MaskTrack(size=tuple(size), total=self.total, rles=rles)


def load_mask_dictionary(path: files.PathLike) -> Mapping[str, Any]:
    """Annotation id, as text, to its entry; ask `entries_of` for one."""
    content = files.load_mapping(path)
    if isinstance(content, dict):  # pickles may have integers
        return {str(key): entry for key, entry in content.items()}
    return content


def entries_of(dictionary: Mapping[str, Any], key: Any) -> Sequence[Any]:
    """The mask list of an annotation id, which is an integer in some files and text in others; both
    published wrappings of it are taken.
    """
    entry = dictionary.get(str(key))
    if entry is None:
        raise DataError(
            "the annotation id has no entry in the mask dictionary",
            found=key,
            reason="missing_mask_id",
        )
    if isinstance(entry, Mapping):
        return next((entry[name] for name in _WRAPPINGS if name in entry), [])
    return entry


def _find(library: Library, path: str) -> str:
    """The frame folder, or an array or video of the same name."""
    for suffix in (".npy", ".mp4"):
        if os.path.isfile(library.root / (path + suffix)):
            return library.find(path + suffix)
    return library.find(path)


def _listed(numbers: Mapping[str, int], stem: str) -> int:
    if stem not in numbers:
        raise _outside(stem)
    return numbers[stem]


def _number(stem: str) -> int:
    if not stem.isdigit():
        raise _outside(stem)
    return int(stem)


def _outside(found: Any) -> DataError:
    return DataError(
        "a listed frame is not in the clip",
        field="frames",
        found=found,
        reason="frame_out_of_range",
    )


def _stride(frames: Sequence[int]) -> int:
    """The constant step of the annotated frames from frame 0 on; 1 where there is none."""
    steps = {right - left for left, right in zip(frames, frames[1:])}
    return steps.pop() if len(steps) == 1 and frames[0] == 0 and min(steps) > 0 else 1
