"""Video files through PyAV: frames are recognised by their timestamps.

Decoding starts at the last place from which it can (`packets`), and runs forwards to the frame that
is asked for. A file without timestamps is counted from its beginning. Opened through `open_video`.
"""

from __future__ import annotations

import bisect
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

import numpy as np

from sama_plugin.errors import MediaError
from sama_plugin.media.packets import Packets, Start
from sama_plugin.media.video_file import VideoFile


class PyAvFile(VideoFile):
    """A video file. Reading forwards never decodes a frame twice."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._shown: Optional[Iterator[Any]] = None
        self._position = 0  # frame that decoding comes to next

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
        self._shown = None
        super().close()

    def _open(self) -> Any:
        import av

        try:
            container = av.open(str(self._path))
            context = container.streams.video[0].codec_context
        except (av.error.FFmpegError, IndexError) as error:
            raise MediaError(
                f"PyAV cannot read {self._path}: it is damaged, or its codec is unknown ({error})"
            ) from error
        context.thread_count = 1  # clips are read side by side by worker processes
        return container

    def _numbered(self, listed: Optional[Packets]) -> Packets:
        return listed or self._count_frames()

    def _stated_rate(self) -> Optional[float]:
        stated = self._decoder.streams.video[0].average_rate
        return float(stated) if stated else None

    def _failures(self) -> tuple[type[BaseException], ...]:
        import av

        return (StopIteration, av.error.FFmpegError)

    def _lose_place(self) -> None:
        self._shown = None

    def _picture(self, index: int) -> np.ndarray:
        return _upright(self._frame(index))

    def _frame(self, index: int) -> Any:
        """Decode up to and with frame `index`."""
        start = self._packets.start_before(index)
        if self._shown is None or index < self._position or start.frame > self._position:
            self._jump(start)
        while True:
            frame = next(self._shown)
            number = self._position if self._packets.times is None else self._number(frame)
            if number > index:  # the jump went too far, or a frame is missing
                if start.frame == 0:
                    raise StopIteration
                start = self._packets.starts[0]
                self._jump(start)
                continue
            self._position = number + 1
            if number == index:
                return frame

    def _jump(self, start: Start) -> None:
        if start.frame == 0 or self._packets.times is None:
            self._decoder.close()
            self._decoder = self._open()
            self._position = 0
        else:
            stream = self._decoder.streams.video[0]
            stamp = round(self._packets.times[start.frame] / float(stream.time_base))
            self._decoder.seek(stamp, stream=stream, backward=True)
            self._position = start.frame
        self._shown = self._decoder.decode(video=0)

    def _number(self, frame: Any) -> int:
        """Index of the frame whose time is nearest; -1 before the first shown one."""
        clock, time = self._packets.times, float(frame.pts * frame.time_base)
        at = bisect.bisect_left(clock, time)
        near = min(
            (n for n in (at - 1, at) if 0 <= n < len(clock)), key=lambda n: _gap(clock, n, time)
        )
        return near if _gap(clock, near, time) < 1e-3 else at - 1

    def _count_frames(self) -> Packets:
        """Without the packet list: every frame is decoded once to be counted."""
        times = [frame.time for frame in self._decoder.decode(video=0)]
        self._decoder = self._open()
        known = tuple(sorted(times)) if times and None not in times else None
        return Packets(known, len(times), (Start(0, 0),))


def _upright(frame: Any) -> np.ndarray:
    """Pixels (H, W, 3) uint8, turned as the file says."""
    try:
        rotation = frame.rotation
    except AttributeError as error:
        raise MediaError(
            "this PyAV does not tell how a frame is turned; pip install -U av (14 or newer)"
        ) from error
    if rotation % 90:
        raise MediaError(f"a frame is turned by {rotation} degrees; only quarter turns are read")
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), rotation // 90))


def _gap(clock: Sequence[float], number: int, time: float) -> float:
    return abs(clock[number] - time)
