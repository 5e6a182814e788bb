"""Peak memory of tracking above the weights, for clips of growing length, at one feature budget.

    python benchmarks/flat_memory.py                       # 50, 100, 200 frames
    python benchmarks/flat_memory.py --frames 50 400 --objects 10

Each length runs in a process of its own. Frames are made when they are read, features past the
budget go to a memory-mapped file, memories out of reach are dropped, and every mask leaves as RLE
at once (the RLEs of noise would be most of what grows): what is left must not grow with the clip.
The last line is the largest peak over the smallest. The allocator keeps what it was given back;
MALLOC_MMAP_THRESHOLD_=32768 MALLOC_TRIM_THRESHOLD_=65536 in the environment shows what is in use.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.segmenter_schedule import PROMPTED, SIZE, Noise, prompts
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.segment.base import build_segmenter
from sama_plugin.segment.following import STOCK
from sama_plugin.segment.propagate import propagate
from sama_plugin.segment.store import FeatureStore
from sama_plugin.segment.track import write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[50, 100, 200], help="lengths T")
    parser.add_argument("--objects", type=int, default=2)
    parser.add_argument("--budget", type=float, default=16.0, help="MiB of features kept")
    parser.add_argument("--segmenter", default="mini")
    options = parser.parse_args()
    peaks = []
    for frames in options.frames:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks.append(pool.apply(measure, (frames, options)))
        print(f"{frames:6} frames {peaks[-1]:9.1f} MiB above the weights", flush=True)
    print(f"ratio {max(peaks) / min(peaks):.3f}")


def measure(frames: int, options: argparse.Namespace) -> float:
    """Most memory above that of the loaded segmenter, in MiB."""
    torch.manual_seed(0)
    segmenter = build_segmenter(options.segmenter, "random")
    before = peak()
    objects = prompts(segmenter, options.objects, PROMPTED, "cpu")
    store = FeatureStore(segmenter, Noise(frames), budget=int(options.budget * 2**20))
    seen = set()
    with torch.no_grad():
        for result in propagate(segmenter, store, objects, frames, options=STOCK):
            write(result, [MaskTrack((SIZE, SIZE), frames) for _ in objects])
            seen.add(result.frame)
    assert len(seen) == frames == store.encodes
    store.close()
    return peak() - before


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
