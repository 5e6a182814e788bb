"""Every installed decoder gives the frames and the clock of decoding from the start; which one is
taken, and what is said when it is missing."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from sama_plugin.errors import ConfigError, MediaError
from sama_plugin.media import decoders, packets
from sama_plugin.media.video import open_video
from tests.media.clips import CLIPS, SIZE

READABLE = [name for name in CLIPS if name != "sound.mp4"]
NEIGHBOUR = 3.0  # grey levels; libraries convert YUV by different filters


@pytest.fixture(params=["pyav", "torchcodec"])
def decoder(request):
    pytest.importorskip(decoders.MODULES[request.param], reason=f"{request.param} NOT TESTED")
    return request.param


@pytest.mark.parametrize("name", READABLE)
def test_frames_and_clock_are_those_of_the_file(clip, decoded_from_start, decoder, name):
    if (decoder, name) == ("torchcodec", "no_timestamps.avi"):
        with pytest.raises(MediaError, match="without timestamps; read it with another decoder"):
            open_video(clip(name), decoder=decoder)
        return
    reference = open_video(clip(name), decoder="decord")
    with open_video(clip(name), decoder=decoder) as reader:
        turned = name in ("turned_90.mp4", "turned_270.mov")
        assert reader.size == (SIZE[::-1] if turned else SIZE)
        expected = decoded_from_start(clip(name), reader.size).astype(int)
        total = len(expected)
        slack = 0.15 if name == "varying_rate.mp4" else 1e-3  # averages of a varying rate differ
        assert len(reader) == total and reader.fps == pytest.approx(reference.fps, rel=slack)
        assert reader.times(range(total)) == pytest.approx(reference.times(range(total)), abs=1e-3)
        every = reader.frames(range(total))
        assert np.abs(every - expected).mean((1, 2, 3)).max() < NEIGHBOUR
        order = random.Random(0)
        for _ in range(8):
            wanted = [order.randrange(total) for _ in range(order.randrange(1, 6))]
            assert np.array_equal(reader.frames(wanted), every[wanted]), wanted


@pytest.mark.parametrize("name", ["closed.mp4", "open_gop.mkv", "no_timestamps.avi"])
def test_without_ffmpeg_frames_are_still_right(clip, decoder, name, monkeypatch):
    if decoder == "torchcodec" and name == "no_timestamps.avi":
        pytest.skip("torchcodec invents a clock where the file has none")
    with open_video(clip(name), decoder="decord") as reader:
        expected = reader.frames(range(len(reader)))
    monkeypatch.setattr(packets, "_list_packets", lambda path: None)
    with open_video(clip(name), decoder=decoder) as reader:
        wanted = [31, 4, 17, 59, 0]
        assert len(reader) == len(expected)
        assert np.abs(reader.frames(wanted) - expected[wanted].astype(int)).mean() < NEIGHBOUR


def test_a_closed_reader_says_so(clip, decoder):
    reader = open_video(clip("closed.mp4"), decoder=decoder)
    reader.close()
    with pytest.raises(MediaError, match="was closed"):
        reader.frames([0])


def test_files_that_are_no_video(tmp_path, decoder):
    (tmp_path / "text.mp4").write_bytes(b"hello, this is no film")
    with pytest.raises(MediaError, match="text.mp4.*not a video"):
        open_video(tmp_path / "text.mp4", decoder=decoder)


@pytest.mark.parametrize(
    ("argument", "environment", "installed", "expected"),
    [
        (None, None, ("decord", "pyav", "torchcodec"), "decord"),
        (None, None, ("pyav", "torchcodec"), "pyav"),
        (None, None, ("torchcodec",), "torchcodec"),
        (None, "torchcodec", ("decord", "torchcodec"), "torchcodec"),
        ("pyav", "torchcodec", ("decord", "pyav"), "pyav"),
    ],
)
def test_which_is_taken(monkeypatch, argument, environment, installed, expected):
    monkeypatch.setattr(decoders, "_installed", lambda name: name in installed)
    monkeypatch.delenv(decoders.VARIABLE, raising=False)
    if environment:
        monkeypatch.setenv(decoders.VARIABLE, environment)
    assert decoders.chosen(argument) == expected


def test_a_decoder_that_is_missing_or_unknown_is_named(monkeypatch, clip):
    monkeypatch.setattr(decoders, "_installed", lambda name: False)
    with pytest.raises(MediaError, match=r"'pyav' was asked for \(argument\).*pip install av"):
        open_video(clip("closed.mp4"), decoder="pyav")
    monkeypatch.setenv(decoders.VARIABLE, "torchcodec")
    with pytest.raises(MediaError, match=r"\(SAMA_VIDEO_DECODER\), but torchcodec is not"):
        open_video(clip("closed.mp4"))
    monkeypatch.delenv(decoders.VARIABLE)
    with pytest.raises(MediaError, match="no video decoder is installed"):
        open_video(clip("closed.mp4"))
    with pytest.raises(ConfigError, match="did you mean 'pyav'"):
        open_video(clip("closed.mp4"), decoder="pyaw")


def test_choosing_imports_no_decoder(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert decoders.chosen("decord") == "decord"
