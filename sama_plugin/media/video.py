"""Opening whatever shows a clip, and reading only the frames asked for.

`open_video` takes a video file (see `decoders`), a GIF, an image, a folder of frames, a `.npy`
file, an array or a list of images, and gives a `VideoReader` that all of them share: length, size,
clock, frames by index. Frames are upright RGB in display order, the same bits as decoding from the
start. Whatever cannot be read raises `MediaError` here, not later. Used by sessions, collation, the
page and the command line.
"""

from __future__ import annotations

import bisect
import re
from abc import ABC, abstractmethod
from os.path import abspath
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Optional, Sequence, Union

import numpy as np

from sama_plugin.errors import MediaError

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".webm", ".avi", ".mkv")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
UNTIMED_FPS = 24.0
"""Frames a second of a source that has no clock (frame folder, array) and was opened without `fps`.
"""

Source = Union[str, Path, np.ndarray, Sequence[Any]]


class VideoReader(ABC):
    """A clip. Subclasses say how long and large it is and decode ascending frames.

    Attributes:
        name: short name for messages and output files.
        fps: frames a second, the average where they vary.
        still: one picture without time.
        decoded: frames decoded so far.
    """

    name: str
    fps: float
    still: bool = False
    decoded: int = 0

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright frames."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames, at least 1."""

    @abstractmethod
    def _decode(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames (H, W, 3) uint8 for ascending, different, valid indices."""

    def _times(self) -> Sequence[float]:
        """Seconds of every frame, ascending."""
        return [index / self.fps for index in range(len(self))]

    @property
    def duration(self) -> float:
        """Seconds from time 0 to the end of the last frame."""
        return self._times()[-1] + 1 / self.fps

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Frames, uint8 (N, H, W, 3), RGB, in the order given, repeats included; each is decoded
        once.

        Raises:
            MediaError: an index outside the clip, or a frame that cannot be decoded.
        """
        wanted = self._checked(indices)
        different = sorted(set(wanted))
        pictures = None if different else np.empty((0, *self.size, 3), dtype=np.uint8)
        for row, picture in enumerate(self._decode(different)):
            if pictures is None:  # only now: a file's first frame need not be decoded for its size
                pictures = np.empty((len(different), *self.size, 3), dtype=np.uint8)
            self._check_size(picture, different[row])
            pictures[row] = picture
            self.decoded += 1
        assert pictures is not None
        if different == wanted:
            return pictures
        row_of = {index: row for row, index in enumerate(different)}
        return pictures[[row_of[index] for index in wanted]]

    def times(self, indices: Sequence[int]) -> tuple[float, ...]:
        """Timestamps in seconds."""
        clock = self._times()
        return tuple(float(clock[index]) for index in self._checked(indices))

    def frame_at(self, seconds: float) -> int:
        """The frame on display at a time.

        Raises:
            MediaError: a time before the start or after the end of the clip.
        """
        clock = self._times()
        if not 0 <= seconds <= self.duration:
            raise MediaError(
                f"{seconds:g} s is outside {self.name}, which runs from 0 to {self.duration:.3f} s"
            )
        slack = 1e-6  # so that the time of a frame, printed and typed again, finds that frame
        return max(0, bisect.bisect_right(clock, seconds + slack) - 1)

    def close(self) -> None:  # noqa: B027  (arrays hold nothing open)
        """Free what reading holds open."""

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _checked(self, indices: Sequence[int]) -> list[int]:
        wanted = [int(index) for index in indices]
        for index in wanted:
            if not 0 <= index < len(self):
                raise MediaError(
                    f"frame {index} is outside {self.name}, which has {len(self)} frames (0 to "
                    f"{len(self) - 1})"
                )
        return wanted

    def _check_size(self, picture: np.ndarray, index: int) -> None:
        if picture.shape != (*self.size, 3):
            height, width = picture.shape[:2]
            raise MediaError(
                f"frame {index} of {self.name} has {width} x {height} pixels, the others "
                f"{self.size[1]} x {self.size[0]}; all frames of a clip must have one size"
            )


def open_video(
    source: Source, fps: Optional[float] = None, decoder: Optional[str] = None
) -> VideoReader:
    """A reader for a clip or picture.

    Args:
        source: path or address (see `elsewhere`) of a video file, GIF, image, `.npy`
            (T, H, W, 3) uint8 or folder of frames; an array (T, H, W, 3) or (H, W, 3) uint8; or a
            list of pictures (paths, PIL images, arrays).
        fps: frame rate of a source without a clock (folder, array, list); others keep their own.
        decoder: library that decodes video files, a name in `decoders.DECODERS`; by default chosen
            by `SAMA_VIDEO_DECODER` or by what is installed.

    Raises:
        MediaError: missing, empty, truncated, not a video, or without frames.
    """
    from sama_plugin.media import pictures
    from sama_plugin.media.elsewhere import local_path

    fps = UNTIMED_FPS if fps is None else float(fps)
    if not 0 < fps < float("inf"):
        raise MediaError(f"a clip cannot have {fps} frames a second")
    if isinstance(source, np.ndarray):
        return pictures.ArrayReader(source, fps)
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes, Mapping)):
        return pictures.ListReader(list(source), fps)
    if not isinstance(source, (str, Path)) or not str(source).strip():
        raise MediaError(
            f"{source!r} is no clip; give a path or an address, an array (frames, height, width, "
            "3) of uint8, or a list of pictures"
        )
    path = local_path(source)
    if not path.exists():
        raise MediaError(f"there is no file or folder {path}")
    if path.is_dir():
        return pictures.ListReader(frame_files(path), fps, name=Path(abspath(path)).name)
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes)")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return pictures.ArrayReader(pictures.load_npy(path), fps, name=path.stem)
    if suffix == ".gif":
        return pictures.GifReader(path)
    if suffix in IMAGE_SUFFIXES:
        return pictures.ListReader([path], fps, name=path.stem, still=True)
    from sama_plugin.media.decoders import open_file

    return open_file(path, decoder)


def frame_files(folder: Union[str, Path]) -> list[Path]:
    """The frame pictures of a folder in natural order (frame2 before frame10); hidden files are not
    frames.

    Raises:
        MediaError: no folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MediaError(f"there is no folder {folder}")
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    if not files:
        raise MediaError(
            f"{folder} has no frames; expected pictures named *{', *'.join(IMAGE_SUFFIXES)}"
        )
    return sorted(files, key=lambda path: natural_key(path.name))


def natural_key(name: str) -> list[tuple[int, Union[int, str]]]:
    """Sort key that compares runs of digits as numbers."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts] + [(1, name)]
