"""Local videos for the host's own video items.

The tree reads videos only through a storage client that is not public; without it every video item
fails and is swallowed. This loader has the call of the host's and reads local files with our
reader. It keeps the numbers of the frames it took, which the host throws away.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence

import numpy as np

from sama_plugin.media.video import open_video


class Frames(list):
    """PIL images, and which frames of the file they are."""

    indices: tuple[int, ...] = ()


class LocalVideos:
    """Stands in for the host's `TCSLoader`, for images and videos on local disks."""

    def __init__(self, configuration: Optional[str] = None):
        self.configuration = configuration

    def __call__(
        self,
        path: str,
        image_type: str = "image",
        max_num_frames: int = -1,
        min_num_frames: int = 8,
        sample: str = "rand",
        clip: Optional[Sequence[float]] = None,
    ) -> Any:
        """One RGB image, or the frames of a video.

        Args:
            sample: "rand" takes a random frame of each of n equal parts, "middle" the middle one;
                n is drawn between the limits for "rand", and the upper limit for "middle".
            clip: (start, end) in seconds.
        """
        from PIL import Image

        reader = open_video(path)
        try:
            if image_type == "image":
                return Image.fromarray(reader.frames([0])[0])
            first, last = 0, len(reader)
            if clip is not None:
                first, last = reader.frame_at(clip[0]), reader.frame_at(clip[1]) + 1
            wanted = _spread(first, last, max_num_frames, min_num_frames, sample)
            frames = Frames(Image.fromarray(frame) for frame in reader.frames(wanted))
            frames.indices = tuple(wanted)
            return frames
        finally:
            reader.close()


def _spread(first: int, last: int, most: int, least: int, how: str) -> list[int]:
    total = max(last - first, 1)
    rng = np.random.default_rng() if how == "rand" else None
    most = most if most > 0 else total
    count = most if rng is None else int(rng.integers(min(least, most), most + 1))
    count = min(count, total)
    inside = np.full(count, 0.5) if rng is None else rng.random(count)
    return (first + np.floor((np.arange(count) + inside) * total / count).astype(int)).tolist()
