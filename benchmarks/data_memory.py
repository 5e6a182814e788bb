"""Memory of a loader worker that reads a large mask dictionary, above one with a small one.

    python benchmarks/data_memory.py
    python benchmarks/data_memory.py --megabytes 1024 --workers 4

MeViS files of that size are written, the source is prepared, and worker processes read samples as
training does. What is compared is USS, memory that belongs to one worker alone. Linux only. Aim:
less than 50 MB. Exit code 1 if it is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

AIM = 50.0
FRAMES = 32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=96, help="size of the dictionary")
    parser.add_argument("--workers", type=int, default=2, help="processes that read")
    parser.add_argument("--samples", type=int, default=100, help="samples each of them reads")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SAMA_CACHE"] = str(Path(folder) / "cache")
        for name, size in (("small", 1), ("large", options.megabytes)):
            path = write_dataset(Path(folder) / name, size * 2**20)
            found[name] = worker_memory(path, options.workers, options.samples)
            shown = ", ".join(f"{uss:.1f}" for uss in found[name])
            print(f"{name}: dictionary of {size} MB, USS of the workers {shown} MB", flush=True)
    more = max(found["large"]) - max(found["small"])
    print(f"a large dictionary costs a worker {more:.1f} MB")
    return 0 if more < AIM else 1


def write_dataset(folder: Path, size: int) -> Path:
    """A MeViS file whose mask dictionary has about `size` bytes; returns its path."""
    from PIL import Image

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benchmarks.data_index import write_dictionary

    clip = folder / "JPEGImages" / "clip"
    clip.mkdir(parents=True)
    for frame in range(FRAMES):
        Image.new("L", (854, 480)).save(clip / f"{frame:05d}.jpg")
    keys = write_dictionary(folder / "mask_dict.json", size)
    frames = [f"{frame:05d}" for frame in range(FRAMES)]
    said = {str(key): {"exp": f"thing {key}", "anno_id": [key]} for key in range(keys)}
    videos = {"clip": {"frames": frames, "expressions": said, "height": 480, "width": 854}}
    (folder / "meta_expressions.json").write_text(json.dumps({"videos": videos}))
    return folder / "meta_expressions.json"


def worker_memory(path: Path, workers: int, samples: int) -> list[float]:
    """USS in MB of every worker after it has read its samples."""
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:  # what parsing needs is gone with this process
        pool.apply(_prepare, (path,))
    dataset = _open(path)
    gc.collect()
    queue: Any = context.Queue()
    ready: Any = context.Event()
    started = [
        context.Process(target=_read, args=(dataset, first, workers, samples, queue, ready))
        for first in range(workers)
    ]
    for process in started:
        process.start()
    found = [queue.get() for _ in started]
    ready.set()
    for process in started:
        process.join()
    return found


def uss() -> float:
    """MB that belong to this process alone."""
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("Private_")) / 1024


def _prepare(path: Path) -> None:
    from sama_plugin.data.prepared import prepare
    from sama_plugin.data.report import Quarantine

    prepare(_config(path), Quarantine())


def _open(path: Path) -> Any:
    from sama_plugin.data.mixture import MixtureDataset
    from sama_plugin.data.sources import open_source

    return MixtureDataset([open_source(_config(path))])


def _config(path: Path) -> Any:
    from sama_plugin.data.sources import SourceConfig

    return SourceConfig("mevis", str(path), root=str(path.parent / "JPEGImages"))


def _read(dataset: Any, first: int, step: int, samples: int, queue: Any, ready: Any) -> None:
    for number in range(first, step * samples, step):
        sample = dataset[number].sample
        assert sample.targets
    gc.collect()
    queue.put(uss())
    ready.wait()  # a page is private once the others that share it are gone


if __name__ == "__main__":
    sys.exit(main())
