"""Mask tracks: one object's masks over time, stored as RLE and decoded when looked at.

What is not known is not zero: a frame without an entry was never annotated or tracked, an entry
    `None` says that the
object is not visible there. Datasets, targets, propagation and answers all hand these around.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Sequence

import numpy as np

from sama_plugin.errors import DataError
from sama_plugin.media import rle as codec
from sama_plugin.media.rle import RLE


@dataclass
class MaskTrack:
    """One object in one clip.

    Attributes:
        size: (height, width) of the masks, which is that of the frames.
        total: frames of the clip.
        rles: mask of each known frame; None where the object is known not to be visible.
        scores: probability or logit of the object being there, as its maker says, where known.
        ious: predicted quality of the mask, where known.
    """

    size: tuple[int, int]
    total: int
    rles: dict[int, Optional[RLE]] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    ious: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.size = (int(self.size[0]), int(self.size[1]))
        for frame, rle in self.rles.items():
            if not 0 <= frame < self.total:
                raise DataError(
                    "a mask lies outside the clip",
                    field="rles",
                    found=f"frame {frame}",
                    expected=f"0 to {self.total - 1}",
                    reason="frame_out_of_range",
                )
            if rle is not None and tuple(rle["size"]) != self.size:
                raise DataError(
                    "a mask has another size than its track",
                    field=f"rles[{frame}]",
                    found=tuple(rle["size"]),
                    expected=self.size,
                    reason="size_mismatch",
                )

    @classmethod
    def from_masks(
        cls, masks: np.ndarray, frames: Optional[Sequence[int]] = None, total: Optional[int] = None
    ) -> MaskTrack:
        """A track from masks, bool (N, H, W).

        Args:
            frames: source frame of each mask; default: 0 to N - 1.
            total: frames of the clip; default: N.
        """
        masks = np.asarray(masks)
        if masks.ndim != 3:
            raise DataError(
                "not masks over time", found=masks.shape, expected="(frames, height, width)"
            )
        frames = range(len(masks)) if frames is None else frames
        if len(frames) != len(masks):
            raise DataError(f"{len(masks)} masks for {len(frames)} frames", field="frames")
        rles = {int(n): codec.encode(m) if m.any() else None for n, m in zip(frames, masks)}
        return cls(masks.shape[1:], len(masks) if total is None else total, rles)

    def frames(self) -> tuple[int, ...]:
        """Known frames, ascending."""
        return tuple(sorted(self.rles))

    def visible(self) -> tuple[int, ...]:
        """Frames with at least one pixel, ascending."""
        return tuple(frame for frame in self.frames() if self.area(frame))

    def mask(self, frame: int) -> np.ndarray:
        """Mask of a known frame, bool (H, W).

        Raises:
            DataError: nothing is known of that frame.
        """
        if frame not in self.rles:
            raise DataError(
                "the track says nothing of this frame",
                field="rles",
                found=f"frame {frame}",
                expected=f"one of its {len(self.rles)} known frames",
                reason="unknown_frame",
            )
        rle = self.rles[frame]
        return np.zeros(self.size, dtype=bool) if rle is None else codec.decode(rle)

    def area(self, frame: int) -> Optional[int]:
        """Pixels of the mask on a frame; None if nothing is known of it."""
        if frame not in self.rles:
            return None
        rle = self.rles[frame]
        return 0 if rle is None else codec.area(rle)

    def tube(self, frames: Sequence[int]) -> np.ndarray:
        """Masks of known frames, bool (N, H, W), in the order given."""
        masks = [self.mask(frame) for frame in frames]
        return np.stack(masks) if masks else np.zeros((0, *self.size), dtype=bool)

    def union(self, other: MaskTrack) -> MaskTrack:
        """Both objects as one, on the frames where both are known; scores and qualities: the higher
        one.
        """
        if (self.size, self.total) != (other.size, other.total):
            raise DataError(
                "tracks of different clips cannot be joined",
                found=(other.size, other.total),
                expected=(self.size, self.total),
                reason="size_mismatch",
            )
        rles: dict[int, Optional[RLE]] = {}
        for frame in sorted(self.rles.keys() & other.rles.keys()):
            present = [rle for rle in (self.rles[frame], other.rles[frame]) if rle is not None]
            rles[frame] = codec.merge(present) if len(present) > 1 else (present or [None])[0]
        return MaskTrack(
            self.size,
            self.total,
            rles,
            _higher(self.scores, other.scores, rles),
            _higher(self.ious, other.ious, rles),
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object; frame numbers become its keys."""
        record: dict[str, Any] = {
            "size": list(self.size),
            "total": self.total,
            "rles": {str(frame): _plain(self.rles[frame]) for frame in self.frames()},
        }
        for name in ("scores", "ious"):
            values = getattr(self, name)
            if values:
                record[name] = {str(frame): float(values[frame]) for frame in sorted(values)}
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> MaskTrack:
        """Inverse of `to_json`; raises DataError for a record that is none."""
        try:
            return cls(
                size=tuple(record["size"]),
                total=int(record["total"]),
                rles={int(frame): _stored(rle) for frame, rle in record["rles"].items()},
                scores={int(frame): float(one) for frame, one in record.get("scores", {}).items()},
                ious={int(frame): float(one) for frame, one in record.get("ious", {}).items()},
            )
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(
                f"not a mask track ({error!r})",
                found=sorted(record) if isinstance(record, Mapping) else type(record).__name__,
                expected="size, total, rles",
            ) from error


def _stored(rle: Optional[RLE]) -> Optional[RLE]:
    return None if rle is None else {"size": rle["size"], "counts": rle["counts"]}


def _plain(rle: Optional[RLE]) -> Optional[RLE]:
    if rle is None:
        return None
    return dict(rle) if isinstance(rle["counts"], str) else codec.compress(rle)


def _higher(one: dict[int, float], two: dict[int, float], frames: Any) -> dict[int, float]:
    found = {frame: [scores[frame] for scores in (one, two) if frame in scores] for frame in frames}
    return {frame: max(values) for frame, values in found.items() if values}
