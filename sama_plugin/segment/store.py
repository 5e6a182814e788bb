"""Features of one video's frames, each frame encoded exactly once.

All objects, turns and sessions of a video share one store. Features stay on the segmenter's device
until a byte budget is spent; the rest goes to one temporary file that is read back through memory
mapping and vanishes with the store. `encodes` counts frames encoded, which for a T-frame clip is
never more than T. Where the disk is dearer than time, the oldest features are dropped instead and
encoded again when they are asked for. Used by `propagate` and by sessions.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal, Optional, Protocol, Sequence

import numpy as np
import torch
from torch import Tensor

from sama_plugin.errors import MediaError
from sama_plugin.segment.base import FrameFeatures, Segmenter

DEFAULT_BUDGET = 8 << 30


class FrameSource(Protocol):
    """What the store needs of a video reader."""

    def __len__(self) -> int: ...

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """RGB uint8 (N, H, W, 3)."""


class FeatureStore:
    """Encoded frames of one video.

    Args:
        segmenter: encodes. reader: a video reader. budget: bytes of features kept on the device.
        batch: frames decoded and encoded together by `prepare`.
        overflow: past the budget, "spill" to a file or "encode" again when asked for.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        reader: FrameSource,
        budget: int = DEFAULT_BUDGET,
        batch: int = 4,
        overflow: Literal["spill", "encode"] = "spill",
    ):
        self.segmenter, self.reader = segmenter, reader
        self.budget, self.batch, self.overflow = budget, batch, overflow
        self.encodes = 0
        self.resident_bytes = 0
        self._resident: dict[int, FrameFeatures] = {}
        self._spilled: dict[int, int] = {}
        self._file: Optional[_SpillFile] = None

    def __len__(self) -> int:
        return len(self.reader)

    def __contains__(self, frame: int) -> bool:
        return frame in self._resident or frame in self._spilled

    def features(self, frame: int) -> FrameFeatures:
        """Features of one frame (one row), encoding it if that has not been done.

        Raises:
            MediaError: the video has no such frame.
        """
        self.prepare([frame])
        if frame in self._resident:
            return self._resident[frame]
        return self._file.read(self._spilled[frame])

    def prepare(self, frames: Sequence[int]) -> None:
        """Encode those of `frames` that are missing, a few at a time (with "encode", those that
        come first: the others would push them out).
        """
        missing = sorted({frame for frame in frames if frame not in self})
        for frame in missing:
            if not 0 <= frame < len(self):
                raise MediaError(
                    f"frame {frame} of a video of {len(self)} frames was asked for; "
                    "frames count from 0"
                )
        if self.overflow == "encode":
            missing = missing[: self.batch]
        for start in range(0, len(missing), self.batch):
            chunk = missing[start : start + self.batch]
            pixels = self.segmenter.preprocess(self.reader.frames(chunk))
            with torch.no_grad():
                encoded = self.segmenter.encode(pixels)
            self.encodes += len(chunk)
            for row, frame in enumerate(chunk):
                self._keep(
                    frame, encoded.rows(torch.tensor([row], device=encoded.embedding.device))
                )

    def read_ahead(self, frames: Sequence[int]) -> None:
        """Encode frames that will be asked for from the last to the first, in the order in which a
        video file decodes them. With "encode" they would push each other out: nothing is done.
        """
        if self.overflow == "spill":
            for frame in sorted(frames):
                self.prepare([frame])

    def close(self) -> None:
        """Forget everything; the temporary file is deleted."""
        self._resident.clear()
        self._spilled.clear()
        self.resident_bytes, self._file = 0, None

    def _keep(self, frame: int, features: FrameFeatures) -> None:
        size = sum(part.numel() * part.element_size() for part in _parts(features))
        if self.overflow == "encode":
            self._make_room(size)
        if self.overflow == "encode" or self.resident_bytes + size <= self.budget:
            self._resident[frame] = features
            self.resident_bytes += size
            return
        if self._file is None:
            self._file = _SpillFile(features)
        self._spilled[frame] = self._file.append(features)

    def _make_room(self, size: int) -> None:
        """Drop the oldest frames until `size` bytes fit; one frame is always kept."""
        while self._resident and self.resident_bytes + size > self.budget:
            self._resident.pop(next(iter(self._resident)))
            self.resident_bytes -= size


class _SpillFile:
    """Equal-sized records of features in a temporary file; the position tensor is common and stays
    in memory.
    """

    def __init__(self, example: FrameFeatures):
        self.position = example.position
        self.device = example.embedding.device
        self.layout = [(tuple(part.shape), part.dtype) for part in _parts(example)]
        self.sizes = [part.numel() * part.element_size() for part in _parts(example)]
        self.count = 0
        self._folder = tempfile.TemporaryDirectory(prefix="sama_features_")
        self._path = Path(self._folder.name) / "features.bin"
        self._path.touch()

    def append(self, features: FrameFeatures) -> int:
        with self._path.open("ab") as file:
            for part in _parts(features):
                file.write(part.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        self.count += 1
        return self.count - 1

    def read(self, record: int) -> FrameFeatures:
        length = sum(self.sizes)
        data = np.memmap(self._path, np.uint8, "r", offset=record * length, shape=(length,))
        parts, start = [], 0
        for (shape, dtype), size in zip(self.layout, self.sizes):
            chunk = torch.from_numpy(np.array(data[start : start + size]))
            parts.append(chunk.view(dtype).view(shape).to(self.device))
            start += size
        embedding, fine, middle = parts
        return FrameFeatures(embedding, self.position, (fine, middle))


def _parts(features: FrameFeatures) -> tuple[Tensor, ...]:
    return (features.embedding, *features.high_res)
