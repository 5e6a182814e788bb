"""Training clips as the aggregator sees them: visual tokens, pointings, and where each thing is.

The tower is frozen, so every clip is drawn and looked at once. Below a folder, memory-mapped, for
clip i of N with at most 5 things and the F frames of configs/mini.yaml: `tokens.npy` (N, F, 64, C)
float16; `cover.npy` (N, 5, F, 64) uint8, share of each cell that shows the thing (255: all of it);
`frame.npy` (N, 5, 3) int8, `weights.npy` (N, 5, 3, 64) and `shape.npy` (N, 5, 3, s, s) uint8, three
ways in which the thing is pointed at (frame -1: it is not). `done` counts the clips that are ready.
Only the training split is ever drawn. Used by `pretrain_aggregator.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy as np

from sama_plugin.atomic import atomic_path
from sama_plugin.data.pointing import as_kind
from sama_plugin.data.regions import SamaRule
from sama_plugin.media.frames import plan_frames
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.miniworld.host import MINI
from sama_plugin.miniworld.nameless import nameless
from sama_plugin.miniworld.pretrain_vision import clip_of
from sama_plugin.miniworld.render import render
from sama_plugin.miniworld.scene import MIN_POINTED
from sama_plugin.miniworld.things import FRAMES, SIZE, Clip
from sama_plugin.miniworld.write import POINTING
from sama_plugin.model.config import SamaConfig

SPLIT = "train"
"""The only split this file knows."""
THINGS = 5
POINTINGS = 3
FULL = 255
Look = Callable[[np.ndarray], np.ndarray]
"""uint8 (F, 128, 128, 3) to the host's projected tokens (F, N, C)."""


class SeenClips:
    """`count` training clips from seed `first` on, half of them with nameless things if so said;
    `fill` may be interrupted and run again.
    """

    def __init__(
        self, folder: Path, config: SamaConfig, first: int, count: int, half_nameless: bool = False
    ):
        kind = "half-nameless" if half_nameless else SPLIT
        self.folder = Path(folder) / f"{kind}-{first}-{count}"
        self.half_nameless = half_nameless
        self.folder.mkdir(parents=True, exist_ok=True)
        self.first, self.count = first, count
        self.frames = np.array(plan_frames(FRAMES, config.frames).aggregator)
        self.side = config.region.shape_size
        grid = MINI.grid
        self.rule = SamaRule((grid, grid), self.side)
        cells, pointed = grid * grid, (count, THINGS, POINTINGS)
        seen = len(self.frames)
        self.tokens = self._memmap("tokens", (count, seen, cells, MINI.width), np.float16)
        self.cover = self._memmap("cover", (count, THINGS, seen, cells), np.uint8)
        self.frame = self._memmap("frame", pointed, np.int8)
        self.weights = self._memmap("weights", (*pointed, cells), np.uint8)
        self.shape = self._memmap("shape", (*pointed, self.side, self.side), np.uint8)

    @property
    def ready(self) -> int:
        """Clips seen so far."""
        done = self.folder / "done"
        return int(done.read_text()) if done.exists() else 0

    def clip(self, index: int) -> Clip:
        """The facts behind clip `index`: every second one may be `nameless`."""
        clip = clip_of(SPLIT, self.first + index)
        return nameless(clip) if self.half_nameless and index % 2 else clip

    def fill(self, look: Look) -> SeenClips:
        """Draw and look at the rest; returns itself."""
        for index in range(self.ready, self.count):
            clip = self.clip(index)
            frames, visible = render(clip)
            shown = visible[self.frames]
            self.tokens[index] = look(frames[self.frames])
            self.frame[index] = -1
            rng = np.random.default_rng([self.first + index, 5])
            for thing in range(len(clip.things)):
                masks = shown == thing + 1  # (F, H, W)
                self.cover[index, thing] = _cover(masks)
                self._point(index, thing, masks, rng)
            if index % 64 == 63 or index == self.count - 1:
                self._flush(index + 1)
        return self

    def _point(self, index: int, thing: int, masks: np.ndarray, rng: np.random.Generator) -> None:
        seen = np.flatnonzero(masks.sum((1, 2)) >= MIN_POINTED)
        if not len(seen):
            return
        for number in range(POINTINGS):
            frame = int(rng.choice(seen))
            prompt = RegionPrompt.from_mask(frame, masks[frame])
            prompt = as_kind(prompt, POINTING[int(rng.integers(len(POINTING)))], rng)
            entries = self.rule.of_masks([0], [frame], [prompt.mask_array(SIZE, SIZE)])
            self.frame[index, thing, number] = frame
            self.weights[index, thing, number] = np.rint(entries.weights[0] * FULL)
            self.shape[index, thing, number] = np.rint(entries.shape[0] * FULL)

    def _flush(self, ready: int) -> None:
        for array in (self.tokens, self.cover, self.frame, self.weights, self.shape):
            array.flush()
        with atomic_path(self.folder / "done") as path:
            path.write_text(str(ready))

    def _memmap(self, name: str, shape: tuple[int, ...], kind: type) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        if not path.exists():
            with atomic_path(path) as partial:
                np.lib.format.open_memmap(partial, mode="w+", dtype=kind, shape=shape).flush()
        return np.lib.format.open_memmap(path, mode="r+")


def _cover(masks: np.ndarray) -> np.ndarray:
    """(F, H, W) bool to (F, cells) uint8 shares."""
    grid, step = MINI.grid, SIZE // MINI.grid
    shares = masks.reshape(-1, grid, step, grid, step).mean((2, 4))
    return np.rint(shares.reshape(-1, grid * grid) * FULL).astype(np.uint8)
