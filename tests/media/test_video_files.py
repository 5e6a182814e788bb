"""Video files: any frame in any order has the bits of decoding from the start; bad files say so."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from sama_plugin.errors import MediaError
from sama_plugin.media import packets
from sama_plugin.media.video import open_video
from tests.media.clips import CLIPS, SIZE

READABLE = [name for name in CLIPS if name != "sound.mp4"]
HIDING = ("cut.mp4", "cut_open_gop.mp4", "cut_hevc.mp4")  # frames hidden by an edit list


@pytest.mark.parametrize("name", READABLE)
def test_frames_are_those_of_decoding_from_the_start(clip, decoded_from_start, name):
    path = clip(name)
    with open_video(path) as reader:
        turned = name in ("turned_90.mp4", "turned_270.mov")
        assert reader.size == (SIZE[::-1] if turned else SIZE)
        expected = decoded_from_start(path, reader.size)
        total = len(reader)
        assert total == len(expected)
        order = random.Random(0)
        for _ in range(12):
            wanted = [order.randrange(total) for _ in range(order.randrange(1, 6))]
            assert np.array_equal(reader.frames(wanted), expected[wanted]), wanted
        assert np.array_equal(reader.frames(range(total)), expected)
        assert np.array_equal(reader.frames(range(0, total, 5)), expected[::5])


@pytest.mark.parametrize("name", [name for name in READABLE if name not in HIDING])
def test_without_ffmpeg_frames_are_still_right(clip, decoded_from_start, name, monkeypatch):
    monkeypatch.setattr(packets, "_list_packets", lambda path: None)
    with open_video(clip(name)) as reader:
        expected = decoded_from_start(clip(name), reader.size)
        wanted = [i % len(expected) for i in (31, 4, 17, 59, 0)]
        assert len(reader) == len(expected)
        assert np.array_equal(reader.frames(wanted), expected[wanted])


@pytest.mark.parametrize("name", READABLE)
def test_clocks(clip, name):
    with open_video(clip(name)) as reader:
        times = reader.times(range(len(reader)))
        assert all(early < late for early, late in zip(times, times[1:]))
        assert 0 <= times[0] < 0.05
        assert [reader.frame_at(max(0, seconds)) for seconds in times] == list(range(len(reader)))
        assert reader.frame_at(times[-1] + 0.5 / reader.fps) == len(reader) - 1
        for outside in (-0.01, times[-1] + 1.01 / reader.fps, float("nan")):
            with pytest.raises(MediaError, match="is outside"):
                reader.frame_at(outside)


def test_a_varying_rate_is_seen_in_the_times(clip):
    with open_video(clip("varying_rate.mp4")) as reader:
        assert reader.times([19, 20, 21, 22]) == pytest.approx((0.76, 0.84, 0.96, 1.08))


def test_only_the_frames_asked_for_are_handed_over(clip):
    with open_video(clip("closed.mp4")) as reader:
        picked = reader.frames([30, 3, 30])
        assert reader.decoded == 2 and picked.shape == (3, *SIZE, 3)
        assert np.array_equal(picked[0], picked[2]) and not np.array_equal(picked[0], picked[1])
        assert reader.frames([]).shape == (0, *SIZE, 3)


@pytest.mark.parametrize("indices", [[60], [0, -1], [10**9]])
def test_frames_outside_the_clip(clip, indices):
    with open_video(clip("closed.mp4")) as reader:
        for read in (reader.frames, reader.times):
            with pytest.raises(
                MediaError, match=r"outside closed, which has 60 frames \(0 to 59\)"
            ):
                read(indices)


def test_a_closed_reader_says_so(clip):
    reader = open_video(clip("closed.mp4"))
    reader.close()
    with pytest.raises(MediaError, match="was closed"):
        reader.frames([0])


def half(path, target):
    content = path.read_bytes()
    target.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("closed.mp4", "truncated.*moov"),
        ("faststart.mp4", "truncated: it ends before"),
        ("one_group.mkv", "truncated: it ends before"),
        ("vp8.webm", "truncated: it ends before"),
        ("mpeg4.avi", "truncated: it has .* bytes and states"),
    ],
)
def test_truncated_files(clip, tmp_path, name, words):
    half(clip(name), tmp_path / name)
    with pytest.raises(MediaError, match=words):
        open_video(tmp_path / name)


class BrokenDecoder:
    """Reads like decord's reader and fails at the third frame."""

    def __init__(self, decoder):
        self.decoder, self.left = decoder, 2

    def __getattr__(self, name):
        return getattr(self.decoder, name)

    def __len__(self):
        return len(self.decoder)

    def next(self):
        self.left -= 1
        if self.left < 0:
            raise StopIteration
        return self.decoder.next()


def test_a_frame_that_cannot_be_decoded_is_named(clip):
    with open_video(clip("closed.mp4")) as reader:
        reader._decoder = BrokenDecoder(reader._decoder)
        with pytest.raises(MediaError, match="frame 2 of .*closed.mp4 cannot be decoded"):
            reader.frames(range(4))


def test_the_size_is_that_of_the_first_frame_read(clip, monkeypatch):
    """Going to frame 0 for it would cost every sample a jump there and back."""
    with open_video(clip("closed.mp4")) as reader:
        jumps, jump = [], reader._jump
        monkeypatch.setattr(reader, "_jump", lambda *to: jumps.append(to) or jump(*to))
        frames = reader.frames([len(reader) - 1])
        assert len(jumps) == 1 and reader.size == frames.shape[1:3] and len(jumps) == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"hello, this is no film", "not a video"),
        ("text.mkv", b"hello, this is no film", "not a video"),
        ("text.avi", b"hello, this is no film", "not a video"),
        ("noise.webm", bytes(range(256)) * 40, "not a video"),
        ("unknown.xyz", b"hello, this is no film", "not a video"),
    ],
)
def test_files_that_are_no_video(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=f"{name}.*{words}"):
        open_video(tmp_path / name)


def test_sound_is_no_video(clip):
    with pytest.raises(MediaError, match="no video stream"):
        open_video(clip("sound.mp4"))


def test_a_missing_file():
    with pytest.raises(MediaError, match="there is no file or folder /nowhere/film.mp4"):
        open_video("/nowhere/film.mp4")


def test_real_videos(sama_data):
    expected = json.loads((sama_data / "videos" / "expected.json").read_text())
    tolerance = expected["tolerance"]
    for name, facts in expected["videos"].items():
        with open_video(sama_data / "videos" / name) as reader:
            indices = [int(index) for index in facts["pts_seconds"]]
            assert len(reader) == facts["frames"]
            assert reader.fps == pytest.approx(facts["fps"], abs=tolerance["fps"])
            times = list(facts["pts_seconds"].values())
            assert reader.times(indices) == pytest.approx(times, abs=tolerance["pts_seconds"])
            early = [index for index in indices if index <= 150]  # later ones cost the most
            pictures = reader.frames(early)
            assert pictures.shape[1:] == (facts["height"], facts["width"], 3)
            colours = np.array([facts["mean_rgb"][str(index)] for index in early])
            assert np.abs(pictures.mean((1, 2)) - colours).max() < tolerance["mean_rgb"]
            assert reader.decoded == len(early)
