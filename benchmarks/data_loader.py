"""A sample's planned frames, against decoding its clip with OpenCV as upstream does.

    python benchmarks/data_loader.py
    python benchmarks/data_loader.py --seconds 90 --shipped ../shared/data/videos

The clip is encoded here: 1080p, H.264, a keyframe every two seconds. A sample reads 5 frames for
the language model and 5 for masks, which the default policy lays on the same ones. How much must be
decoded depends on how far behind a keyframe they lie, so the reading is repeated with the planned
frames moved on by sixths of the keyframe distance: the ratio is that of the mean, the last column
that of the worst. Times are of the CPU, child processes included. `--shipped` adds clips of a
folder, whose keyframes may lie far apart. Aim: 10 times, in the mean, on the clip encoded here.
Exit code 1 if it is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Optional

AIM = 10.0
GROUP = 48  # frames from keyframe to keyframe
PARTS = 6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="length of the clip")
    parser.add_argument("--height", type=int, default=1080, help="height of the clip")
    parser.add_argument("--repeat", type=int, default=3, help="the fastest of so many readings")
    parser.add_argument("--shipped", type=Path, help="folder of clips to measure as well")
    options = parser.parse_args()
    print(f"{'clip':<24}{'frames':>8}{'all, cv2':>12}{'planned':>10}{'ratio':>8}{'worst':>8}")
    with tempfile.TemporaryDirectory() as folder:
        clip = encode_clip(Path(folder) / "encoded.mp4", options.seconds, options.height)
        ratio = report(clip, options.repeat)
    for path in sorted(options.shipped.glob("*.mp4")) if options.shipped else ():
        report(path, options.repeat)
    return 0 if ratio >= AIM else 1


def encode_clip(path: Path, seconds: int, height: int) -> Path:
    """A moving test picture with a keyframe every two seconds, 24 frames a second."""
    import imageio_ffmpeg

    picture = f"testsrc2=size={height * 16 // 9}x{height}:rate=24:duration={seconds}"
    subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi", "-i", picture),
            *("-c:v", "libx264", "-preset", "ultrafast", "-threads", "1"),
            *(
                "-g",
                f"{GROUP}",
                "-keyint_min",
                f"{GROUP}",
                "-sc_threshold",
                "0",
                "-pix_fmt",
                "yuv420p",
            ),
            str(path),
        ],
        check=True,
    )
    return path


def report(path: Path, repeat: int) -> float:
    """Print a row; returns how many times faster the planned frames are."""
    whole, frames = fastest(lambda: decode_everything(path), 1)
    sample = grounded_sample(path)
    moved = [GROUP * part // PARTS for part in range(PARTS)]
    planned = [fastest(functools.partial(decode_planned, sample, by), repeat)[0] for by in moved]
    mean, worst = sum(planned) / len(planned), max(planned)
    times = f"{whole:>10.3f} s{mean:>8.3f} s{whole / mean:>8.1f}{whole / worst:>8.1f}"
    print(f"{path.stem:<24}{frames:>8}{times}", flush=True)
    return whole / mean


def fastest(work: Callable[[], int], repeat: int) -> tuple[float, int]:
    """(seconds of the fastest run, what it returned)."""
    best: Optional[float] = None
    value = 0
    for _ in range(repeat):
        began = cpu_seconds()
        value = work()
        seconds = cpu_seconds() - began
        best = seconds if best is None else min(best, seconds)
    assert best is not None
    return best, value


def cpu_seconds() -> float:
    """Of this process, its threads, and the processes it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def decode_everything(path: Path) -> int:
    """Every frame as an RGB array, one thread; returns their number."""
    import cv2

    cv2.setNumThreads(1)
    capture, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]), 0
    while True:
        there, frame = capture.read()
        if not there:
            break
        cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        frames += 1
    capture.release()
    return frames


def grounded_sample(path: Path) -> Any:
    """A sample whose target is annotated on every frame."""
    from sama_plugin.dialog.sample import Media, Sample, Target, Turn
    from sama_plugin.media.tracks import MaskTrack
    from sama_plugin.media.video import open_video

    with open_video(path) as reader:
        total, size = len(reader), reader.size
    track = MaskTrack(size, total, dict.fromkeys(range(total)))
    turn = Turn("where?", "<p> this </p> [SEG]", targets=(Target("this", track),))
    return Sample("a", Media("video", str(path)), (turn,))


def decode_planned(sample: Any, moved: int = 0) -> int:
    """The frames of a training sample as the collator reads them, each `moved` frames on; returns
    how many it asks for.
    """
    from sama_plugin.data.decode import read_clip
    from sama_plugin.data.plan import plan_sample
    from sama_plugin.media.frames import FramePolicy

    total = sample.targets[0].track.total
    plan = plan_sample(sample, FramePolicy(aggregator=0, llm=5, prompted=5), total)
    frames = tuple(min(frame + moved, total - 1) for frame in plan.llm)
    clip = read_clip(sample, dataclasses.replace(plan, llm=frames, prompted=frames))
    assert len(clip.rows) == len(clip.segments) == len(set(frames))
    return len(clip.rows) + len(clip.segments)


if __name__ == "__main__":
    sys.exit(main())
