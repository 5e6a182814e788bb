"""The media folder of a dataset: paths that stay inside it, frame numbers of file names, sizes read
once.

Parsers ask here instead of touching files, so a path that climbs out of the root, a missing clip
and a clip of another length are found in one place and in one wording. Videos are opened once for
their size and length; with `probe=False` they are not opened at all, and what depends on it is
checked when the clip is decoded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional, Union

from sama_plugin.errors import DataError, MediaError
from sama_plugin.media.elsewhere import is_address, local_path, split_member
from sama_plugin.media.video import VIDEO_SUFFIXES, frame_files, open_video


@dataclass(frozen=True)
class Facts:
    """Length and size of a clip or image."""

    frames: int
    height: int
    width: int


class Library:
    """Media below one folder.

    Args:
        root: folder that media paths in records start from.
        probe: open videos to learn their length and size.
    """

    def __init__(self, root: Union[str, Path], probe: bool = True):
        self.root = Path(os.path.abspath(root))
        self.probe = probe

    def find(self, name: Any, *, record: Any = None, field: str = "video") -> str:
        """Absolute path of a media file or frame folder. An address (`s3://...`) stays as it is and
        is first looked for when it is decoded; of `x.tar!a.mp4` the archive is looked for.

        Raises:
            DataError: `missing_field`, `missing_media`, or `path_outside_root`.
        """
        if not isinstance(name, str) or not name:
            raise DataError(
                "no media path", record=record, field=field, found=name, reason="missing_field"
            )
        if is_address(name):
            return name
        name, member = split_member(name)
        path = os.path.normpath(os.path.join(self.root, name))
        if not os.path.isabs(name) and not path.startswith(str(self.root) + os.sep):
            raise DataError(
                "the path leaves the media folder",
                record=record,
                field=field,
                found=name,
                expected=f"a path below {self.root}",
                reason="path_outside_root",
            )
        if not os.path.exists(path):  # also False for a loop of symbolic links
            raise DataError(
                "the media file does not exist",
                record=record,
                field=field,
                found=path,
                reason="missing_media",
            )
        return path if member is None else f"{path}!{member}"

    def facts(self, path: str) -> Optional[Facts]:
        """Length and size; None for a video file when `probe` is off."""
        if not self.probe and Path(path).suffix.lower() in _VIDEO_FILES:
            return None
        try:
            path = str(local_path(path))
            facts = _facts(path, os.stat(path).st_mtime_ns)
        except MediaError as error:
            facts = str(error)
        if isinstance(facts, str):
            raise DataError(
                f"the media cannot be read: {facts}", found=path, reason="unreadable_media"
            )
        return facts

    def size(self, path: str) -> tuple[int, int]:
        """(height, width) of an image."""
        facts = self.facts(path)
        if facts is None:
            raise DataError(
                "an image was expected", found=path, expected="a picture", reason="unreadable_media"
            )
        return facts.height, facts.width

    def frame_numbers(self, path: str) -> dict[str, int]:
        """File stem to frame number, for a folder of frames."""
        try:
            return _frame_numbers(path, os.stat(path).st_mtime_ns)
        except MediaError as error:
            raise DataError(
                f"the media cannot be read: {error}", found=path, reason="unreadable_media"
            ) from error


_VIDEO_FILES = {*VIDEO_SUFFIXES, ".gif"}


@lru_cache(maxsize=65536)
def _facts(path: str, changed: int) -> Union[Facts, str]:
    """What a medium is, or why it cannot be read; neither is found out twice."""
    try:
        return _look(path)
    except MediaError as error:
        return str(error)


def _look(path: str) -> Facts:
    if os.path.isdir(path):
        from sama_plugin.media.pictures import picture_size

        files = frame_files(path)
        return Facts(len(files), *picture_size(files[0]))
    reader = open_video(path)
    try:
        height, width = reader.size
        return Facts(len(reader), height, width)
    finally:
        reader.close()


@lru_cache(maxsize=256)
def _frame_numbers(path: str, changed: int) -> dict[str, int]:
    return {Path(file).stem: number for number, file in enumerate(frame_files(path))}
