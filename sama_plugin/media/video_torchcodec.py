"""Video files through torchcodec, which scans a file and seeks exactly by itself.

Length and clock come from `packets`, as with the other decoders; a file whose frames torchcodec
counts otherwise is refused, not read under shifted numbers. Opened through `open_video`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional, Sequence

import numpy as np

from sama_plugin.errors import MediaError
from sama_plugin.media.packets import Packets, Start
from sama_plugin.media.video_file import VideoFile


class TorchcodecFile(VideoFile):
    """A video file."""

    def _open(self) -> Any:
        from torchcodec.decoders import VideoDecoder

        try:
            return VideoDecoder(
                str(self._path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
            )
        except self._failures() as error:
            raise MediaError(
                f"torchcodec cannot read {self._path}: it is damaged, its codec is unknown, or "
                f"torchcodec finds no FFmpeg ({self._reason(error)})"
            ) from error

    def _numbered(self, listed: Optional[Packets]) -> Packets:
        count = len(self._decoder)
        if listed is None:
            return Packets(None, count, (Start(0, 0),))
        if listed.times is None or listed.count != count:
            raise MediaError(
                f"torchcodec counts {count} frames in {self._path}, the file shows "
                f"{listed.count}{'' if listed.times else ' without timestamps'}; read it with "
                "another decoder: SAMA_VIDEO_DECODER=decord or pyav"
            )
        return listed

    def _stated_rate(self) -> Optional[float]:
        return self._decoder.metadata.average_fps

    def _times(self) -> Sequence[float]:
        """Without the packet list the frames themselves are asked, once."""
        if self._packets.times is None:
            frames = (self._decoder.get_frame_at(index) for index in range(len(self)))
            times = tuple(float(frame.pts_seconds) for frame in frames)
            self._packets = replace(self._packets, times=times)
        return self._packets.times

    def _failures(self) -> tuple[type[BaseException], ...]:
        return (RuntimeError, ValueError)

    def _picture(self, index: int) -> np.ndarray:
        return self._decoder.get_frame_at(index).data.numpy()
