"""Video files through torchcodec, which scans a file and seeks exactly by itself.

Length and clock come from `packets`, as with the other decoders; a file whose frames torchcodec
counts otherwise is refused, not read under shifted numbers. Opened through `open_video`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

import numpy as np

from sama_plugin.errors import MediaError
from sama_plugin.media.packets import read_packets
from sama_plugin.media.video import VideoReader


class TorchcodecFile(VideoReader):
    """A video file."""

    def __init__(self, path: Path):
        self.name, self._path = path.stem, path
        packets = read_packets(path)
        self._decoder = _open(path)
        self._count = len(self._decoder)
        if not self._count:
            raise MediaError(f"{path} has no frames")
        self._clock = None if packets is None else packets.times
        if packets is not None and (self._clock is None or packets.count != self._count):
            raise MediaError(
                f"torchcodec counts {self._count} frames in {path}, the file shows "
                f"{packets.count}{'' if self._clock else ' without timestamps'}; read it with "
                "another decoder: SAMA_VIDEO_DECODER=decord or pyav"
            )
        self._size: Optional[tuple[int, int]] = None
        self.fps = float(self._decoder.metadata.average_fps or 1.0)

    @property
    def size(self) -> tuple[int, int]:
        if self._size is None:
            next(self._decode([0]))
        return self._size

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        self._decoder = None

    def _times(self) -> Sequence[float]:
        if self._clock is None:
            frames = (self._decoder.get_frame_at(index) for index in range(self._count))
            self._clock = tuple(float(frame.pts_seconds) for frame in frames)
        return self._clock

    def _decode(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        if self._decoder is None:
            raise MediaError(f"{self._path} was closed; open it again")
        for index in indices:
            try:
                picture = self._decoder.get_frame_at(index).data.numpy()
            except (RuntimeError, ValueError) as error:
                raise MediaError(
                    f"frame {index} of {self._path} cannot be decoded; the file may be damaged "
                    f"or truncated ({str(error).strip()[:160]})"
                ) from error
            self._size = self._size or picture.shape[:2]
            yield picture


def _open(path: Path) -> Any:
    from torchcodec.decoders import VideoDecoder

    try:
        return VideoDecoder(
            str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
        )
    except (RuntimeError, ValueError) as error:
        raise MediaError(
            f"torchcodec cannot read {path}: it is damaged, its codec is unknown, or torchcodec "
            f"finds no FFmpeg ({str(error).strip()[:160]})"
        ) from error
