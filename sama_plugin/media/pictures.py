"""Clips that are pictures already: arrays, `.npy` files, frame folders, lists of images, stills,
GIFs.

Opened through `open_video`. Pictures are turned upright (EXIF) and made RGB when they are read, one
at a time.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence, Union

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sama_plugin.errors import MediaError
from sama_plugin.media.video import VideoReader

_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    UnidentifiedImageError,
    Image.DecompressionBombError,
)

_ORIENTATION = 0x0112  # EXIF: how the camera was held


class ArrayReader(VideoReader):
    """An array (T, H, W, 3) uint8, perhaps memory-mapped; one picture (H, W, 3) is a still."""

    def __init__(self, array: np.ndarray, fps: float, name: str = "array"):
        self.still = array.ndim == 3
        array = array[None] if self.still else array
        if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8:
            raise MediaError(
                f"{name}: an array of shape {array.shape} and type {array.dtype} is no clip; give "
                "(frames, height, width, 3) of uint8"
            )
        if 0 in array.shape:
            raise MediaError(f"{name}: the clip is empty, its shape is {array.shape}")
        self.array, self.fps, self.name = array, fps, name

    @property
    def size(self) -> tuple[int, int]:
        return self.array.shape[1], self.array.shape[2]

    def __len__(self) -> int:
        return len(self.array)

    def _decode(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        return (self.array[index] for index in indices)


class ListReader(VideoReader):
    """Pictures one by one: paths, PIL images or arrays (H, W, 3) uint8, all of one size."""

    def __init__(
        self, pictures: Sequence[Any], fps: float, name: str = "images", still: bool = False
    ):
        if not pictures:
            raise MediaError(f"{name}: a list without pictures is no clip")
        self.pictures, self.fps, self.name, self.still = pictures, fps, name, still
        self._size: Optional[tuple[int, int]] = None
        if still:
            self._size = read_picture(pictures[0]).shape[:2]  # a bad file is found when opened

    @property
    def size(self) -> tuple[int, int]:
        if self._size is None:
            self._size = read_picture(self.pictures[0]).shape[:2]
        return self._size

    def __len__(self) -> int:
        return len(self.pictures)

    def _decode(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        return (read_picture(self.pictures[index]) for index in indices)


class GifReader(VideoReader):
    """An animated GIF. Its frames are differences, so they are composed from the start on; times
    are its own.
    """

    def __init__(self, path: Path):
        self.name, self._path = path.stem, path
        self._clock: list[float] = []
        end = 0.0
        try:
            self._file = Image.open(path)
            self._size = (self._file.height, self._file.width)
            for index in range(getattr(self._file, "n_frames", 1)):
                self._file.seek(index)
                self._clock.append(end)
                end += (self._file.info.get("duration") or 100) / 1000  # browsers show 0 as 100 ms
        except (*_UNREADABLE, EOFError) as error:
            raise MediaError(f"{path} is not a GIF that can be read: {error}") from error
        self.still = len(self._clock) == 1
        self.fps, self._end = len(self._clock) / end, end

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    def __len__(self) -> int:
        return len(self._clock)

    @property
    def duration(self) -> float:
        return self._end

    def _times(self) -> Sequence[float]:
        return self._clock

    def _decode(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        for index in indices:
            try:
                self._file.seek(index)
                yield np.asarray(self._file.convert("RGB"))
            except (*_UNREADABLE, EOFError) as error:
                raise MediaError(
                    f"frame {index} of {self._path} cannot be decoded: {error}"
                ) from error

    def close(self) -> None:
        self._file.close()


def read_picture(picture: Union[str, Path, Image.Image, np.ndarray]) -> np.ndarray:
    """One picture, upright RGB, uint8 (H, W, 3).

    Raises:
        MediaError: missing, empty, truncated or not a picture.
    """
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8:
            raise MediaError(
                f"an array of shape {picture.shape} and type {picture.dtype} is no picture; give "
                "(height, width, 3) of uint8"
            )
        return picture
    if isinstance(picture, Image.Image):
        return _upright(picture)
    with _opened(picture) as opened:
        return _upright(opened)


def picture_size(path: Union[str, Path]) -> tuple[int, int]:
    """(height, width) of what `read_picture` would give; only the file's header is read.

    Raises:
        MediaError: missing, empty or not a picture.
    """
    with _opened(path) as opened:
        # Pillow decodes a whole PNG to look for EXIF behind its pixels
        known = opened.format != "PNG" or "exif" in opened.info
        sideways = known and opened.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
        return (opened.width, opened.height) if sideways else (opened.height, opened.width)


def load_npy(path: Path) -> np.ndarray:
    """A `.npy` array, memory-mapped."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise MediaError(f"{path} is not a numpy array that can be read: {error}") from error


@contextmanager
def _opened(path: Union[str, Path]) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as opened:
            yield opened
    except FileNotFoundError as error:
        raise MediaError(f"there is no file {path}") from error
    except (*_UNREADABLE, AttributeError) as error:
        raise MediaError(f"{path} is not a picture that can be read: {error}") from error


def _upright(picture: Image.Image) -> np.ndarray:
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):  # 16 bits of grey; Pillow would clip them at 255, to white
        grey = (np.clip(np.asarray(upright), 0, 0xFFFF) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)  # (H, W, 3)
    return np.asarray(upright.convert("RGB"))
