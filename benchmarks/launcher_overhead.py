"""How much later a script's first line runs because `python -m sama_plugin` starts it.

    python benchmarks/launcher_overhead.py
    python benchmarks/launcher_overhead.py --starts 20 --imports 3

Two scripts, one a bridge: a plain Trainer script, and the tree that looks like internvl_chat. Each
is started by plain Python and by the launcher in turn; its first line says when it runs (wall clock
since the parent started it, and CPU time of its process). Of each the median is taken. `--imports`
also lets the plain script import a Trainer and a host, to see that what the launcher no longer
imports is not merely paid later; reading the libraries from disk varies, so look at the CPU time
there. Exit code 1 if the launcher adds a second or more before the first line.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Sequence

REPOSITORY = Path(__file__).resolve().parents[1]
TREE = REPOSITORY / "tests" / "hosts" / "internvl_chat" / "tree"
AIM = 1.0
MARK = "first line"
TELL = f"print({MARK!r}, __import__('time').time(), __import__('time').process_time(), flush=True)"
STOP = "raise SystemExit(0)"
IMPORTS = "from transformers import AutoTokenizer, InternVLForConditionalGeneration, Trainer"

Seconds = tuple[float, float]
"""Wall clock and CPU."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=10, help="starts of each kind")
    parser.add_argument("--imports", type=int, default=1, help="starts that import a Trainer")
    options = parser.parse_args()
    print(f"{'':<26}{'python':>16}{'launcher':>16}{'added':>16}   (wall / CPU s)")
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            "first line, Trainer script": (plain_script(Path(folder), ""), options.starts),
            "first line, internvl_chat": (tree_script(Path(folder)), options.starts),
            "after its imports": (plain_script(Path(folder), IMPORTS), options.imports),
        }
        added = [
            compared(name, line, starts) for name, (line, starts) in cases.items() if starts > 0
        ]
    return 0 if max(added[:2]) < AIM else 1


def compared(name: str, line: Sequence[str], starts: int) -> float:
    """Print one row; seconds of wall clock that the launcher adds."""
    script, *flags = line
    ways: list[list[str]] = [[script], ["-m", "sama_plugin", script, "--plugin", "sama", *flags]]
    seconds: list[list[Seconds]] = [[], []]
    for start in range(starts):
        for which in (0, 1) if start % 2 else (1, 0):
            seconds[which].append(started(ways[which]))
    python, launcher = (tuple(map(statistics.median, zip(*found))) for found in seconds)
    more = tuple(after - before for before, after in zip(python, launcher))
    cells = "".join(f"{wall:9.2f} /{cpu:5.2f}" for wall, cpu in (python, launcher, more))
    print(f"{name:<26}{cells}", flush=True)
    return more[0]


def started(arguments: Sequence[str]) -> Seconds:
    """From the start of the process to the line that tells."""
    begin = time.time()
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith(MARK))
    wall, cpu = line[len(MARK) :].split()
    return float(wall) - begin, float(cpu)


def plain_script(folder: Path, imports: str) -> list[str]:
    """The script that tells after `imports`, and the plugin's flags for it."""
    script, data = folder / f"own_{len(imports)}.py", folder / "data.jsonl"
    script.write_text(f"{imports}\n{TELL}\n{STOP}\n")
    data.write_text("")
    return [str(script), "--plugin.data", str(data)]


def tree_script(folder: Path) -> list[str]:
    """A copy of the tree whose script tells before all else and stops; no flags."""
    shutil.copytree(TREE, folder / "tree")
    script = folder / "tree" / "internvl" / "train" / "internvl_chat_finetune.py"
    script.write_text(f"{TELL}\n{STOP}\n{script.read_text()}")
    return [str(script)]


if __name__ == "__main__":
    sys.exit(main())
