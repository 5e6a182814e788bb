"""A sample's planned frames, against decoding its clip with OpenCV as upstream does.

    python benchmarks/data_loader.py
    python benchmarks/data_loader.py --shipped ../shared/data/videos

The clip is encoded here: 1080p, H.264, a keyframe every two seconds; at the default length the
planned frames lie in the middle between two. A sample reads 5 frames for the language model and 5
for masks, which the default policy lays on the same ones; times are of the CPU. `--shipped` adds
clips of a folder, whose keyframes may lie far apart. Aim: 10 times on the clip encoded here. Exit
code 1 if it is missed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Optional

AIM = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=90, help="length of the clip")
    parser.add_argument("--height", type=int, default=1080, help="height of the clip")
    parser.add_argument("--repeat", type=int, default=3, help="the fastest of so many readings")
    parser.add_argument("--shipped", type=Path, help="folder of clips to measure as well")
    options = parser.parse_args()
    print(f"{'clip':<24}{'frames':>8}{'all, cv2':>12}{'planned':>10}{'ratio':>8}")
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
            *("-g", "48", "-keyint_min", "48", "-sc_threshold", "0", "-pix_fmt", "yuv420p"),
            str(path),
        ],
        check=True,
    )
    return path


def report(path: Path, repeat: int) -> float:
    """Print a row; returns how many times faster the planned frames are."""
    whole, frames = fastest(lambda: decode_everything(path), 1)
    sample = grounded_sample(path)
    planned, _ = fastest(lambda: decode_planned(sample), repeat)
    ratio = whole / planned
    print(f"{path.stem:<24}{frames:>8}{whole:>10.3f} s{planned:>8.3f} s{ratio:>8.1f}", flush=True)
    return ratio


def fastest(work: Callable[[], int], repeat: int) -> tuple[float, int]:
    """(seconds of the fastest run, what it returned)."""
    best: Optional[float] = None
    value = 0
    for _ in range(repeat):
        began = time.process_time()
        value = work()
        seconds = time.process_time() - began
        best = seconds if best is None else min(best, seconds)
    assert best is not None
    return best, value


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


def decode_planned(sample: Any) -> int:
    """The frames of a training sample as the collator reads them; returns how many it asks for."""
    from sama_plugin.data.decode import read_clip
    from sama_plugin.media.frames import FramePolicy

    clip = read_clip(sample, FramePolicy(aggregator=0, llm=5, prompted=5))
    assert len(clip.rows) == len(clip.segments) == 5
    return len(clip.rows) + len(clip.segments)


if __name__ == "__main__":
    sys.exit(main())
