"""The mini world as benchmarks: files in the real formats, made on the spot, for the real harness.

What a twin measures is what the benchmark of the same name measures, on clips and answers that the
mini world knows exactly. Used by `sama eval mini-...` and by the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sama_plugin.miniworld.scene import VIDEOS
from sama_plugin.miniworld.write import PARTS, write_world

SPLIT = "heldout"
MADE = ".clips"
"""Holds the number of clips of a folder that is complete."""


@dataclass(frozen=True)
class Twin:
    """A benchmark of `eval.benchmarks.SUITES` on a part of the held-out mini world.

    Attributes:
        suite: its name there.
        file: annotation file below the folder; root: media folder below the folder.
    """

    suite: str
    file: str
    root: str = ""

    def make(self, folder: Path, clips: int) -> None:
        """Write all parts of the first `clips` held-out clips; a complete folder is left alone."""
        marker = folder / MADE
        if marker.is_file() and marker.read_text() == str(clips):
            return
        marker.unlink(missing_ok=True)
        write_world(folder, SPLIT, clips)
        marker.write_text(str(clips))


def _file(part: str) -> str:
    return PARTS[SPLIT][part].file


SAMA_BENCH_G = Twin("sama-bench-g", _file("dialogues"))
SAMA_BENCH_C = Twin("sama-bench-c", _file("dialogues"))
VIDEOREFER_BENCH_D = Twin("videorefer-bench-d", _file("descriptions"))
VIDEOREFER_BENCH_Q = Twin("videorefer-bench-q", _file("choices"))
RVOS = Twin("ref-youtube-vos", _file("expressions"), VIDEOS)
