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
from sama_plugin.media.packets import Packets, Start, read_packets
from sama_plugin.media.video import VideoReader


class PyAvFile(VideoReader):
    """A video file. Reading forwards never decodes a frame twice."""

    def __init__(self, path: Path):
        self.name, self._path = path.stem, path
        packets = read_packets(path)
        self._container = _open(path)
        self._packets = packets or self._count_frames()
        self._count, self._clock = self._packets.count, self._packets.times
        if not self._count:
            raise MediaError(f"{path} has no frames")
        self._size: Optional[tuple[int, int]] = None
        self._shown: Optional[Iterator[Any]] = None
        self._position = 0  # frame that decoding comes to next
        self.fps = self._rate()

    @property
    def size(self) -> tuple[int, int]:
        if self._size is None:
            next(self._decode([0]))
        return self._size

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = self._shown = None

    def _times(self) -> Sequence[float]:
        return super()._times() if self._clock is None else self._clock

    def _decode(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        if self._container is None:
            raise MediaError(f"{self._path} was closed; open it again")
        for index in indices:
            try:
                picture = _upright(self._frame(index))
            except (StopIteration, *_av_errors()) as error:
                self._shown = None
                raise MediaError(
                    f"frame {index} of {self._path} cannot be decoded; the file may be damaged "
                    f"or truncated ({error or type(error).__name__})"
                ) from error
            self._size = self._size or picture.shape[:2]
            yield picture

    def _frame(self, index: int) -> Any:
        """Decode up to and with frame `index`."""
        starts = self._packets.starts
        start = starts[bisect.bisect_right([one.frame for one in starts], index) - 1]
        if self._shown is None or index < self._position or start.frame > self._position:
            self._jump(start)
        while True:
            frame = next(self._shown)
            number = self._position if self._clock is None else self._number(frame)
            if number > index:  # the jump went too far, or a frame is missing
                if start.frame == 0:
                    raise StopIteration
                start = starts[0]
                self._jump(start)
                continue
            self._position = number + 1
            if number == index:
                return frame

    def _jump(self, start: Start) -> None:
        if start.frame == 0 or self._clock is None:
            self._container.close()
            self._container = _open(self._path)
            self._position = 0
        else:
            stream = self._container.streams.video[0]
            stamp = round(self._clock[start.frame] / float(stream.time_base))
            self._container.seek(stamp, stream=stream, backward=True)
            self._position = start.frame
        self._shown = self._container.decode(video=0)

    def _number(self, frame: Any) -> int:
        """Index of the frame whose time is nearest; -1 before the first shown one."""
        clock, time = self._clock, float(frame.pts * frame.time_base)
        at = bisect.bisect_left(clock, time)
        near = min(
            (n for n in (at - 1, at) if 0 <= n < len(clock)), key=lambda n: _gap(clock, n, time)
        )
        return near if _gap(clock, near, time) < 1e-3 else at - 1

    def _count_frames(self) -> Packets:
        """Without the packet list: every frame is decoded once to be counted."""
        times = [frame.time for frame in self._container.decode(video=0)]
        self._container = _open(self._path)
        known = tuple(sorted(times)) if times and None not in times else None
        return Packets(known, len(times), (Start(0, 0),))

    def _rate(self) -> float:
        stated = self._container.streams.video[0].average_rate
        if stated:
            return float(stated)
        clock = self._clock or ()
        return (len(clock) - 1) / (clock[-1] - clock[0]) if len(clock) > 1 else 1.0


def _open(path: Path) -> Any:
    import av

    try:
        container = av.open(str(path))
        context = container.streams.video[0].codec_context
    except (*_av_errors(), IndexError) as error:
        raise MediaError(
            f"PyAV cannot read {path}: it is damaged, or its codec is unknown ({error})"
        ) from error
    context.thread_count = 1  # clips are read side by side by worker processes
    return container


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


def _av_errors() -> tuple[type[Exception], ...]:
    import av

    return (av.error.FFmpegError,)
