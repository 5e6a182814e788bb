"""ReVOS: referring, reasoning and no-target expressions over videos of other datasets.

The layout is that of MeViS; `type_id` says the kind, which becomes a tag of the sample. An empty
`anno_id` means that nothing in the video fits. `mask_dict_foreground.json`, which benchmarks use
for their robustness score, is read by `foreground`.
"""

from __future__ import annotations

from typing import Any, Iterator

from sama_plugin.data.formats import files, video_expressions
from sama_plugin.data.formats.listed_clip import entries_of, load_mask_dictionary
from sama_plugin.data.formats.segmentations import RLE, read_segmentation
from sama_plugin.dialog.sample import Sample

KINDS = {0: "referring", 1: "reasoning", 2: "no target"}


def read(path: files.PathLike, root: files.PathLike, **options: Any) -> Iterator[Sample]:
    """Samples of `meta_expressions_*_.json`; options as in `video_expressions.read`."""
    return video_expressions.read(path, root, kinds=KINDS, **options)


def foreground(path: files.PathLike) -> dict[str, list[RLE]]:
    """Video name to the union of all its objects, one entry a listed frame (None where empty)."""
    dictionary = load_mask_dictionary(path)
    return {
        name: [read_segmentation(entry) for entry in entries_of(dictionary, name)]
        for name in dictionary
    }
