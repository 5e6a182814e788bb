"""Image expressions as samples: shared by RefCOCO, gRefCOCO and Sa2VA's fine-tuning files."""

from __future__ import annotations

from typing import Any, Iterator, Optional, Sequence

from sama_plugin.data.formats.segmentations import read_segmentation
from sama_plugin.dialog.sample import Media, Sample, Turn
from sama_plugin.media.tracks import MaskTrack


def image_track(segmentation: Any, size: tuple[int, int]) -> Optional[MaskTrack]:
    """The one-frame track of a mask on an image; None where nothing is drawn."""
    rle = read_segmentation(segmentation, size)
    return None if rle is None else MaskTrack(size=size, total=1, rles={0: rle})


def image_samples(
    media: Media, turns: Sequence[tuple[str, Turn]], expressions_per_sample: int, source: str
) -> Iterator[Sample]:
    """Conversations of at most so many (id, turn) pairs; each is named by its first turn."""
    for start in range(0, len(turns), expressions_per_sample):
        names, group = zip(*turns[start : start + expressions_per_sample])
        yield Sample(names[0], media, tuple(group), source=source).validate()
