"""A large mask dictionary by its index: the build against json.load, and opening.

    python benchmarks/data_index.py
    python benchmarks/data_index.py --megabytes 2048

Each side runs in a process of its own; times are of its CPU. Aims: built within 1.5 times
json.load, at a fraction of its memory, opened in less than a second. Exit code 1 if one is missed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=128, help="size of the dictionary")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask_dict.json"
        keys = write_dictionary(path, options.megabytes * 2**20)
        print(f"{path.stat().st_size / 2**20:.0f} MB, {keys} entries")
        sides = {"nothing": _nothing, "json.load": _load, "index build": _build, "open": _open}
        found = {name: alone(work, path) for name, work in sides.items()}
    idle = found.pop("nothing")[1]
    print(f"{'':<14}{'seconds':>10}{'peak MB':>10}")
    for name, (seconds, peak) in found.items():
        print(f"{name:<14}{seconds:>10.2f}{peak - idle:>10.0f}")
    ratio = found["index build"][0] / max(found["json.load"][0], 1e-3)
    part = (found["index build"][1] - idle) / max(found["json.load"][1] - idle, 1)
    print(f"built in {ratio:.2f} of json.load's time with {part:.2f} of its memory")
    return 0 if ratio <= 1.5 and part < 0.5 and found["open"][0] < 1 else 1


def write_dictionary(path: Path, size: int) -> int:
    """A mask dictionary of about `size` bytes, as MeViS has it; returns its number of entries."""
    import numpy as np

    from sama_plugin.media import masks

    y, x = np.mgrid[:480, :854]
    entries = []
    for number in range(64):
        blob = (x - 200 - 6 * number) ** 2 + (y - 240) ** 2 < (40 + number) ** 2
        wave = (x * 7 + y * 3 + number * 11) % 97 < 60
        entries.append(json.dumps(masks.encode(blob & wave)))
    written = keys = 0
    with open(path, "w") as file:
        file.write("{")
        while written < size:
            masks_of_key = ", ".join(entries[(keys + frame) % 64] for frame in range(32))
            text = f'{", " if keys else ""}"{keys}": [{masks_of_key}]'
            file.write(text)
            written, keys = written + len(text), keys + 1
        file.write("}")
    return keys


def alone(work: Callable[[Path], Any], path: Path) -> tuple[float, float]:
    """(seconds, peak MB) of a function in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (work, path))


def _measured(work: Callable[[Path], Any], path: Path) -> tuple[float, float]:
    import sama_plugin.data.index  # noqa: F401  (not part of what is timed)

    began = time.process_time()
    kept = work(path)
    seconds = time.process_time() - began
    del kept
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _nothing(path: Path) -> None:
    return None


def _load(path: Path) -> Any:
    with open(path) as file:
        return json.load(file)


def _build(path: Path) -> Any:
    from sama_plugin.data.index import open_index

    return open_index(path)


def _open(path: Path) -> Any:
    from sama_plugin.data.index import open_index

    view = open_index(path)
    assert view["0"]
    return view


if __name__ == "__main__":
    sys.exit(main())
