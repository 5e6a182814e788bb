"""`sama data check` on many records over few media files: every file is opened once.

    python benchmarks/data_check.py
    python benchmarks/data_check.py --records 100000 --media 1000

Aim: 100,000 records over 1,000 clips in less than two minutes on two cores. Exit code 1 if the rate
is below that.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator

AIM = 100_000 / 120


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=5_000, help="lines of the file")
    parser.add_argument("--media", type=int, default=50, help="clips they are about")
    options = parser.parse_args()
    from sama_plugin.data import check
    from sama_plugin.data.formats import sama
    from sama_plugin.data.sources import SourceConfig

    with tempfile.TemporaryDirectory() as folder:
        clips = write_clips(Path(folder), options.media)
        path = Path(folder) / "data.jsonl"
        sama.write(records(clips, options.records), path, folder)
        opened = []
        open_video = check.open_video
        check.open_video = lambda source: opened.append(source) or open_video(source)
        wall, cpu = time.perf_counter(), time.process_time()
        report = check.check_source(SourceConfig("sama", str(path)))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print("\n".join(report.lines(5)))
    print(f"{len(opened)} clips opened, {cpu:.1f} s of CPU, {wall:.1f} s")
    print(f"{options.records / cpu:.0f} records a second of CPU, aim {AIM:.0f}")
    whole = report.counts["samples"] == options.records and len(opened) == options.media
    return 0 if whole and options.records / cpu >= AIM else 1


def write_clips(folder: Path, count: int) -> list[str]:
    """The same short clip under many names."""
    import imageio
    import numpy as np

    first = folder / "00000.mp4"
    random = np.random.default_rng(0)
    frames = random.integers(0, 255, (24, 96, 128, 3), dtype=np.uint8)
    imageio.mimwrite(first, frames, fps=8, macro_block_size=None)
    content = first.read_bytes()
    names = [folder / f"{number:05d}.mp4" for number in range(count)]
    for name in names:
        name.write_bytes(content)
    return [str(name) for name in names]


def records(clips: list[str], count: int) -> Iterator:
    """Samples with a region and a target that is annotated on every frame."""
    import numpy as np

    from sama_plugin.dialog.sample import Media, Region, Sample, Target, Turn
    from sama_plugin.media import masks
    from sama_plugin.media.prompts import RegionPrompt
    from sama_plugin.media.tracks import MaskTrack

    y, x = np.mgrid[:96, :128]
    rles = {frame: masks.encode((x - 30 - frame) ** 2 + (y - 40) ** 2 < 400) for frame in range(24)}
    region = Region((RegionPrompt.from_mask(5, rles[5]),))
    target = Target("the disc", MaskTrack((96, 128), 24, rles))
    said = ("What does <region> do?", "<p> the disc </p> [SEG] moves.")
    turn = Turn(*said, regions=(region,), targets=(target,))
    for number in range(count):
        yield Sample(f"{number}", Media("video", clips[number % len(clips)]), (turn,))


if __name__ == "__main__":
    sys.exit(main())
