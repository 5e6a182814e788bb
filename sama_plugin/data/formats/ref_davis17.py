"""Ref-DAVIS17 as SAMA and Sa2VA score it: the layout of Ref-YouTube-VOS with sorted videos.

Entry k of `mask_dict` belongs to the k-th expression, counted over video names and expression ids
sorted as text; `obj_id` is not used.
"""

from __future__ import annotations

from typing import Any, Iterator

from sama_plugin.data.formats import files, ref_youtube_vos
from sama_plugin.dialog.sample import Sample


def read(path: files.PathLike, root: files.PathLike, **options: Any) -> Iterator[Sample]:
    """Samples of a `meta_expressions.json`; options as in `ref_youtube_vos.read`."""
    return ref_youtube_vos.read(path, root, counted="sorted", **options)
