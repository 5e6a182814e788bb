"""Writing: what is read back is what was written, and a failure leaves nothing behind."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sama_plugin.atomic import atomic_path
from sama_plugin.errors import OutputError
from sama_plugin.media.video import open_video
from sama_plugin.viz.write import write_jpeg, write_png, write_video


def moving_square(count: int, height: int, width: int) -> np.ndarray:
    frames = np.full((count, height, width, 3), (30, 60, 120), np.uint8)
    for number in range(count):
        frames[number, 4 : height - 4, 3 * number + 2 : 3 * number + 14] = (250, 200, 40)
    return frames


@pytest.mark.parametrize(("height", "width"), [(48, 64), (49, 64), (48, 65), (49, 65)])
@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_round_trip(tmp_path, ending, height, width):
    frames = moving_square(9, height, width)
    path = write_video(tmp_path / f"clip.{ending}", (frame for frame in frames), fps=12.5)
    with open_video(path) as reader:
        assert len(reader) == 9 and reader.fps == pytest.approx(12.5, rel=0.02)
        again = reader.frames(range(9))
    even = ending == "mp4"
    assert again.shape[1:3] == (height + even * (height % 2), width + even * (width % 2))
    assert np.abs(again[:, :height, :width].astype(int) - frames).mean() < 4
    assert [file.name for file in tmp_path.iterdir()] == [f"clip.{ending}"]


def test_colours_survive(tmp_path):
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40)):
        frames = np.full((2, 64, 64, 3), colour, np.uint8)
        with open_video(write_video(tmp_path / "flat.mp4", frames, 5)) as reader:
            assert np.abs(reader.frames([1]).astype(int) - colour).max() <= 3


def test_a_gif_keeps_the_time_of_rates_that_are_no_whole_hundredths(tmp_path):
    frames = moving_square(12, 20, 60)
    with open_video(write_video(tmp_path / "a.gif", frames, 24)) as reader:
        assert reader.duration == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_an_interruption_leaves_what_was_there(tmp_path, ending, error):
    path = tmp_path / f"clip.{ending}"

    def interrupted():
        yield from moving_square(5, 16, 32)  # small: some of it has not reached the encoder
        raise error

    for before in ([], [path.name]):
        with pytest.raises(error):
            write_video(path, interrupted(), 10)
        assert [file.name for file in tmp_path.iterdir()] == before
        path.write_bytes(b"an older result")
    assert path.read_bytes() == b"an older result"


def test_a_killed_process_leaves_no_half_video(tmp_path):
    script = (
        "import sys, time, numpy as np\n"
        "from sama_plugin.viz.write import write_video\n"
        "def frames():\n"
        "    for number in range(10_000):\n"
        "        yield np.full((64, 64, 3), number % 256, np.uint8)\n"
        "        if number == 40:\n"
        "            print('going', flush=True)\n"
        "        time.sleep(0.001)\n"
        "write_video(sys.argv[1], frames(), 10)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "clip.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "going\n"
        process.send_signal(signal.SIGKILL)
    time.sleep(0.2)  # the encoder finds its input closed and finishes what it has
    assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.parametrize("write", [write_video, write_png, Path.write_bytes])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, write):
    noise = np.random.default_rng(0).integers(0, 255, (6, 256, 256, 3), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))  # what a file may grow to
    try:
        with pytest.raises(OutputError, match="cannot write .*clip"):
            if write is write_video:
                write_video(tmp_path / "clip.mp4", noise, 10)
            elif write is write_png:
                write_png(tmp_path / "clip.png", noise[0])
            else:
                with atomic_path(tmp_path / "clip.json") as temporary:
                    temporary.write_bytes(noise.tobytes())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_pictures(tmp_path):
    picture = moving_square(1, 20, 30)[0]
    write_png(tmp_path / "a.png", picture)
    write_jpeg(tmp_path / "a.jpg", picture)
    write_png(tmp_path / "grey.png", picture[..., 0])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "grey.png")), picture[..., 0])
    assert np.abs(np.asarray(Image.open(tmp_path / "a.jpg")).astype(int) - picture).mean() < 4


FRAMES = moving_square(3, 16, 16)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda folder: write_video(folder / "a.txt", FRAMES, 5), "ends in .mp4 or .gif"),
        (lambda folder: write_video(folder / "a.mp4", [], 5), "no frames"),
        (lambda folder: write_video(folder / "a.mp4", FRAMES, 0), "0 frames a second"),
        (lambda folder: write_video(folder / "a.mp4", FRAMES / 255, 5), "frame 0 is .* of float64"),
        (lambda folder: write_video(folder / "a.mp4", [FRAMES[0], FRAMES[0, 1:]], 5), "frame 1 is"),
        (lambda folder: write_video(folder / "a.gif", [FRAMES[0], FRAMES[0, 1:]], 5), "frame 1 is"),
        (lambda folder: write_video(folder / "file" / "a.mp4", FRAMES, 5), "cannot write to"),
        (lambda folder: write_png(folder / "file" / "a.png", FRAMES[0]), "cannot write to"),
        (lambda folder: write_png(folder / "a.png", FRAMES), "is no picture"),
        (lambda folder: write_png(folder / "a.png", FRAMES[0] / 255), "is no picture"),
    ],
)
def test_what_cannot_be_written(tmp_path, write, words):
    (tmp_path / "file").write_bytes(b"not a folder")
    with pytest.raises(OutputError, match=words):
        write(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
