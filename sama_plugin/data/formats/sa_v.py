"""SA-V: masklets of an mp4, annotated every 4th frame, frame-major (`masklet[frame][object]`).

`path` is one `*_manual.json` or `*_auto.json`, or a folder of them. Objects have no names, so a
sample asks about nothing: `tracks` is what Ref-SAV and converters read, and `read` makes "segment
the thing I point at" turns, one an object.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator, Optional

from sama_plugin.data.formats import expressions, files
from sama_plugin.data.formats.segmentations import read_segmentation
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict
from sama_plugin.dialog.sample import Media, Sample
from sama_plugin.errors import DataError
from sama_plugin.media.tracks import MaskTrack

STRIDE = 4
"""Annotated frame i is frame 4 i of the video."""


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
) -> Iterator[Sample]:
    """Samples that point at an object on its first frame and want its track; see
    `data.formats.Format`.

    Args:
        root: folder that holds the mp4 files, flat or in the layout of `path`.
    """
    report, library = report or Strict(), Library(root, probe)
    folder = Path(path)
    found = sorted(folder.rglob("sav_*_*.json")) if folder.is_dir() else [folder]
    for file in found:
        name = file.stem.rsplit("_", 1)[0]
        local = RecordReport(report, str(file), name)
        try:
            inside = os.path.join(os.path.relpath(file.parent, root), f"{name}.mp4")
            nested = (library.root / inside).is_file() and not inside.startswith("..")
            source = library.find(inside if nested else f"{name}.mp4")
            turns = tuple(
                expressions.pointed(f"object {number}", track)
                for number, track in tracks(file, source, library)
            )
            media = Media("video", source, STRIDE)
            sample = Sample(file.stem, media, turns, source=str(file)).validate()
        except MALFORMED as error:
            local.drop(error)
            continue
        yield sample


def tracks(path: files.PathLike, source: str, library: Library) -> Iterator[tuple[int, MaskTrack]]:
    """(column, track) of every object that is visible somewhere."""
    content = files.load_json(path)
    rows = content["masklet"]
    size = (int(content["video_height"]), int(content["video_width"]))
    facts = library.facts(source)
    total = facts.frames if facts else (len(rows) - 1) * STRIDE + 1
    if (len(rows) - 1) * STRIDE >= total:
        raise DataError(
            "the masklets reach behind the clip",
            field="masklet",
            found=f"{len(rows)} annotated frames",
            expected=f"at most {(total - 1) // STRIDE + 1}",
            reason="frame_out_of_range",
        )
    for column in range(max((len(row) for row in rows), default=0)):
        entries = [row[column] if column < len(row) else None for row in rows]
        read_entries = [read_segmentation(entry, size) for entry in entries]
        if any(read_entries):
            rles = {STRIDE * index: rle for index, rle in enumerate(read_entries)}
            yield column, MaskTrack(size=size, total=total, rles=rles)
