"""What all readers of video files share: length, size, clock, closing, what is said of damage.

A subclass says how its library opens a file and decodes one frame, and what it can tell of the
frames where the packet list (`packets`) is missing. Subclasses: `video_decord`, `video_pyav`,
`video_torchcodec`, chosen by `decoders`.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

import numpy as np

from sama_plugin.errors import MediaError
from sama_plugin.media.packets import Packets, read_packets
from sama_plugin.media.video import VideoReader


class VideoFile(VideoReader):
    """A video file, held open by `_decoder` (None once it is closed)."""

    def __init__(self, path: Path):
        self.name, self._path = path.stem, path
        self._size: Optional[tuple[int, int]] = None
        listed = read_packets(path)
        self._decoder = self._open()
        self._packets = self._numbered(listed)
        if not self._packets.count:
            raise MediaError(f"{path} has no frames")
        self.fps = self._stated_rate() or _mean_rate(self._packets.times or ())

    @property
    def size(self) -> tuple[int, int]:
        if self._size is None:
            next(self._decode([0]))
        return self._size

    def __len__(self) -> int:
        return self._packets.count

    def close(self) -> None:
        self._decoder = None

    @abstractmethod
    def _open(self) -> Any:
        """The library's own reader, at the beginning of `_path`.

        Raises:
            MediaError: the library cannot read the file.
        """

    @abstractmethod
    def _numbered(self, listed: Optional[Packets]) -> Packets:
        """The frames under the numbers they are read by: the file's packet list as far as the
        library agrees with it; without a list, what the library counts."""

    @abstractmethod
    def _stated_rate(self) -> Optional[float]:
        """Frames a second as the file states them; None if it does not."""

    @abstractmethod
    def _picture(self, index: int) -> np.ndarray:
        """Upright pixels (H, W, 3) uint8, RGB, of a valid frame; may raise `_failures`."""

    @abstractmethod
    def _failures(self) -> tuple[type[BaseException], ...]:
        """What the library raises where a file is damaged."""

    def _lose_place(self) -> None:  # noqa: B027  (a library that keeps no place has none to lose)
        """Forget where decoding stands, after a failure."""

    def _reason(self, error: BaseException) -> str:
        return str(error).strip()[:160] or type(error).__name__

    def _times(self) -> Sequence[float]:
        return super()._times() if self._packets.times is None else self._packets.times

    def _decode(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        if self._decoder is None:
            raise MediaError(f"{self._path} was closed; open it again")
        for index in indices:
            try:
                picture = self._picture(index)
            except self._failures() as error:
                self._lose_place()
                raise MediaError(
                    f"frame {index} of {self._path} cannot be decoded; the file may be damaged "
                    f"or truncated ({self._reason(error)})"
                ) from error
            self._size = self._size or picture.shape[:2]
            yield picture


def _mean_rate(times: Sequence[float]) -> float:
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 1.0
