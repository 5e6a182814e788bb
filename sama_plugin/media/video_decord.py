"""Video files through decord: exact frames, few decoded.

decord decodes and turns frames upright. Where to start and what to count comes from `packets`, so
that every frame has the bits that decoding from the start gives. Opened through `open_video`.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from sama_plugin.errors import MediaError
from sama_plugin.media.packets import Packets, Start
from sama_plugin.media.video_file import VideoFile


class DecordFile(VideoFile):
    """A video file. Reading forwards never decodes a frame twice; a jump costs at most one group of
    pictures.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        self._keys = list(self._decoder.get_key_indices())
        self._position: Optional[int] = None  # frame that decoding comes to next
        self._counter = 0  # the same as decord counts it
        self._can_skip = False

    def _open(self) -> Any:
        path = self._path
        try:
            import decord
        except ImportError as error:
            raise MediaError(
                f"reading {path} needs decord: pip install decord (or eva-decord, where decord has "
                "no wheel)"
            ) from error
        try:
            return decord.VideoReader(str(path), num_threads=1)
        except self._failures() as error:
            raise MediaError(
                f"decord cannot read {path}: it is damaged, or its codec is unknown to decord "
                "(known: H.264, H.265, VP8, VP9, MPEG-4; eva-decord also knows AV1). Convert it "
                f"with: ffmpeg -i {path.name} {path.stem}.converted.mp4 ({self._reason(error)})"
            ) from error

    def _numbered(self, listed: Optional[Packets]) -> Packets:
        packets = listed or _packets_of(self._decoder)
        return replace(packets, count=min(packets.count, len(self._decoder)))

    def _stated_rate(self) -> Optional[float]:
        stated = float(self._decoder.get_avg_fps())
        return stated if np.isfinite(stated) and stated > 0 else None

    def _failures(self) -> tuple[type[BaseException], ...]:
        from decord._ffi.base import DECORDError

        return (StopIteration, RuntimeError, DECORDError)

    def _reason(self, error: BaseException) -> str:
        """Without the times and places in its own source that decord puts before its messages."""
        said = re.sub(r"\[[\d:]+\] \S+:\d+:\s*", "", str(error)).strip()
        return (said.splitlines() or [type(error).__name__])[0][:160]

    def _lose_place(self) -> None:
        self._position = None

    def _picture(self, index: int) -> np.ndarray:
        self._go_to(index)
        return self._step()

    def _go_to(self, frame: int) -> None:
        """Bring the decoder before `frame`."""
        start = self._packets.start_before(frame)
        if self._position is None or frame < self._position or start.frame > self._position:
            self._jump(start, frame)
        while self._position < frame:
            # decord's skip jumps to a keyframe on its way, closed or not: cross those by decoding
            room = self._next_key(self._counter) - 1 - self._counter
            count = min(frame - self._position, room if self._can_skip else 0)
            if count:
                self._decoder.skip_frames(count)
                self._advance(count)
            else:
                self._step()

    def _jump(self, start: Start, frame: int) -> None:
        """Go to `frame` or as far as decord's own jump from `start` is exact."""
        if self._packets.times is None:  # without timestamps decord cannot even rewind
            self._decoder = self._open()
            self._position = self._counter = 0
            return
        # decord counts hidden packets too, so before the next start its skips fall short
        self._can_skip = start.packet > 0 or not self._packets.hidden
        ahead = min(frame - start.frame, self._next_key(start.packet) - 1 - start.packet)
        ahead = ahead if self._can_skip else 0
        self._decoder.seek_accurate(start.packet + ahead)
        self._position, self._counter = start.frame + ahead, start.packet + ahead
        if self._position < frame:
            self._step()  # decord holds this frame already, a skip would not count it

    def _step(self) -> np.ndarray:
        picture = self._decoder.next()
        self._advance(1)
        # a host may have switched decord to another array library for the whole process
        return picture.asnumpy() if hasattr(picture, "asnumpy") else np.asarray(picture)

    def _advance(self, count: int) -> None:
        self._position += count
        self._counter += count

    def _next_key(self, counter: int) -> int:
        at = bisect.bisect_right(self._keys, counter)
        return self._keys[at] if at < len(self._keys) else len(self._decoder) + 1


def _packets_of(decoder: Any) -> Packets:
    """Without the packet list: decord's count and times; only the beginning is a sure start."""
    count = len(decoder)
    stamps = decoder.get_frame_timestamp(list(range(count)))[:, 0] if count else np.zeros(0)
    sound = bool(np.isfinite(stamps).all() and (np.abs(stamps) < 1e9).all())
    times = tuple(sorted(float(stamp) for stamp in stamps)) if sound else None
    return Packets(times, count, (Start(0, 0),))
