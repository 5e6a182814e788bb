"""The PyAV reader's jumps and numbering against a FAKE `av` module, where PyAV is not installed.

The fake has the interface that the reader uses and the real clip's pictures and times; only
`test_decoders` shows that PyAV itself agrees.
"""

from __future__ import annotations

import itertools
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from sama_plugin.errors import MediaError
from sama_plugin.media.video import open_video
from sama_plugin.media.video_pyav import PyAvFile

UNIT = Fraction(1, 12800)


class FakeContainer:
    """Seeks to the keyframe (every 10th frame) `late` frames behind the right one."""

    def __init__(self, pictures, times, late):
        self.pictures, self.stamps = pictures, [round(time / UNIT) for time in times]
        self.start, self.late, self.decoded = 0, late, []
        context = SimpleNamespace(thread_count=0)
        stream = SimpleNamespace(codec_context=context, time_base=UNIT, average_rate=Fraction(25))
        self.streams = SimpleNamespace(video=[stream])

    def seek(self, stamp, stream, backward):
        before = [n for n in range(0, len(self.stamps), 10) if self.stamps[n] <= stamp]
        self.start = before[-1] + self.late

    def decode(self, video):
        for number in itertools.count(self.start):
            if number >= len(self.stamps):
                return
            self.decoded.append(number)
            yield SimpleNamespace(
                pts=self.stamps[number],
                time_base=UNIT,
                rotation=0,
                to_ndarray=lambda format, n=number: self.pictures[n],
            )

    def close(self):
        pass


@pytest.fixture(params=[0, 3], ids=["exact seeks", "late seeks"])
def fake(request, clip, monkeypatch):
    """(path, pictures, containers opened so far)."""
    path, opened = clip("open_gop.mkv"), []
    with open_video(path, decoder="decord") as reader:
        total = range(len(reader))
        pictures, times = reader.frames(total), reader.times(total)

    def start(name):
        opened.append(FakeContainer(pictures, times, request.param))
        return opened[-1]

    error = SimpleNamespace(FFmpegError=type("FFmpegError", (OSError,), {}))
    monkeypatch.setitem(sys.modules, "av", SimpleNamespace(open=start, error=error))
    return path, pictures, opened


def test_any_order(fake):
    path, pictures, _ = fake
    with PyAvFile(path) as reader:
        for wanted in ([59], [31, 4, 17], [0], [45, 46, 47], [12], range(len(pictures))):
            assert np.array_equal(reader.frames(wanted), pictures[list(wanted)]), wanted


def test_reading_forwards_decodes_nothing_twice(fake):
    path, _, opened = fake
    with PyAvFile(path) as reader:
        for index in range(1, 9):
            reader.frames([index])
        assert opened[-1].decoded == list(range(9))


def test_a_frame_that_never_comes_is_named(fake):
    path, _, opened = fake
    with PyAvFile(path) as reader:
        reader.frames([0])
        opened[-1].stamps = opened[-1].stamps[:5]
        with pytest.raises(MediaError, match="frame 7 of .* cannot be decoded"):
            reader.frames([7])
