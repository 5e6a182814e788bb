"""Clips that open and then fail, for the tests of what training sets aside."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.data.factories import FRAMES, HEIGHT, WIDTH

SHOWN = 24


def write_video(path: Path) -> Path:
    """An H.264 clip of `SHOWN` noisy frames, of the factories' height and width, in one group."""
    import imageio

    random = np.random.default_rng(0)
    frames = random.integers(0, 255, (SHOWN, HEIGHT, WIDTH, 3), dtype=np.uint8)
    imageio.mimwrite(path, frames, fps=8, macro_block_size=None)
    assert SHOWN > FRAMES
    return path


def truncated(path: Path) -> str:
    """Only the first half of a clip's bytes."""
    content = write_video(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return str(path)


def lying(path: Path) -> str:
    """A clip that states `SHOWN` frames and holds packets for them, half of which are no frames."""
    content = bytearray(write_video(path).read_bytes())
    start = content.find(b"mdat") - 4
    end = start + int.from_bytes(content[start : start + 4], "big")
    half = (start + 8 + end) // 2
    content[half:end] = bytes(end - half)
    path.write_bytes(content)
    return str(path)
