"""Small video files of every awkward kind, and their frames decoded from the start."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from tests.media.clips import CLIPS, ffmpeg


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Callable[[str], Path]:
    """Path of a clip of `CLIPS`, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            words = CLIPS[name].split()
            words = [str(make(word[1:-1])) if word.startswith("{") else word for word in words]
            ffmpeg(*words, str(path))
        return path

    return make


@pytest.fixture(scope="session")
def decoded_from_start() -> Callable[[Path, tuple[int, int]], np.ndarray]:
    """Every shown frame of a file, (T, H, W, 3), by a program that starts at the beginning."""

    def decode(path: Path, size: tuple[int, int]) -> np.ndarray:
        raw = ffmpeg(
            "-i", str(path), "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"
        )
        return np.frombuffer(raw, np.uint8).reshape(-1, *size, 3)

    return decode
