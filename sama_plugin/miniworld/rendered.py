"""Rendered clips with their pixel labels on disk, so that the segmenter's pre-training draws every
clip once.

Below a folder: `frames.npy` (N, T, 128, 128, 3) and `visible.npy` (N, T, 128, 128), both uint8 and
memory-mapped; `attributes.npy` (N, 8, 3) uint8 holds the colour, shape and texture of every thing
(255: no thing, or no single colour); `done` counts the clips that are ready. Clip i is
`sample_clip(i, split)`. Used by `pretrain_segmenter.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sama_plugin.atomic import atomic_path
from sama_plugin.miniworld.render import render
from sama_plugin.miniworld.things import COLOURS, FRAMES, SHAPES, SIZE, TEXTURES, Clip
from sama_plugin.miniworld.world import sample_clip

THINGS = 8
NO_THING = 255


class RenderedClips:
    """`count` clips of one split; `fill` renders what is missing and may be interrupted."""

    def __init__(self, folder: Path, split: str, count: int):
        self.folder = Path(folder) / f"{split}-{count}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.split, self.count = split, count
        pixels = (count, FRAMES, SIZE, SIZE)
        self.frames = _memmap(self.folder / "frames.npy", (*pixels, 3))
        self.visible = _memmap(self.folder / "visible.npy", pixels)
        self.attributes = _memmap(self.folder / "attributes.npy", (count, THINGS, 3))

    @property
    def ready(self) -> int:
        """Clips rendered so far."""
        done = self.folder / "done"
        return int(done.read_text()) if done.exists() else 0

    def fill(self) -> RenderedClips:
        """Render the rest; returns itself."""
        for index in range(self.ready, self.count):
            clip = sample_clip(index, self.split)
            self.frames[index], self.visible[index] = render(clip)
            self.attributes[index] = _attributes(clip)
            if index % 32 == 31 or index == self.count - 1:
                self._flush(index + 1)
        return self

    def _flush(self, ready: int) -> None:
        for array in (self.frames, self.visible, self.attributes):
            array.flush()
        with atomic_path(self.folder / "done") as path:
            path.write_text(str(ready))


def _attributes(clip: Clip) -> np.ndarray:
    rows = np.full((THINGS, 3), NO_THING, np.uint8)
    for row, thing in zip(rows, clip.things):
        row[:] = (
            NO_THING if thing.colour_after else list(COLOURS).index(thing.colour),
            SHAPES.index(thing.shape),
            TEXTURES.index(thing.texture),
        )
    return rows


def _memmap(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if not path.exists():
        with atomic_path(path) as partial:
            np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape).flush()
    return np.lib.format.open_memmap(path, mode="r+")
