"""HC-STVG: one sentence about one person, whose box is known on a span of frames (version 2 JSON).

The person is pointed at by that box and described: the sentence is the answer. Boxes are
[x, y, w, h]; `st_frame` is the frame of the first one.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional

from sama_plugin.data.formats import files
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict
from sama_plugin.dialog.sample import Media, Region, Sample, Turn
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.errors import DataError
from sama_plugin.media.prompts import RegionPrompt

ASK = f"Describe {REGION_MARK} in one sentence: what the person looks like and does."


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    counts_from: int = 0,
) -> Iterator[Sample]:
    """Samples of a version 2 file; see `data.formats.Format`.

    Args:
        root: folder that the file names start from.
        counts_from: number that the file gives to the first frame of a clip.
    """
    report, library = report or Strict(), Library(root, probe)
    for name, record in files.load_mapping(path).items():
        local = RecordReport(report, str(path), name)
        try:
            yield _sample(name, record, library, counts_from, str(path))
        except MALFORMED as error:
            local.drop(error)


def _sample(
    name: str, record: Mapping[str, Any], library: Library, counts_from: int, source: str
) -> Sample:
    video = library.find(name)
    sentence = str(record.get("English") or record.get("caption") or "").strip()
    if not sentence:
        raise DataError("the sentence is empty", field="English", reason="empty_expression")
    first = int(record["st_frame"]) - counts_from
    facts = library.facts(video)
    if first < 0 or (facts and first + len(record["bbox"]) > facts.frames):
        raise DataError(
            "the boxes reach outside the clip",
            field="bbox",
            found=f"frames {first} to {first + len(record['bbox']) - 1}",
            expected=f"{facts.frames if facts else 'some'} frames",
            reason="frame_out_of_range",
        )
    prompts = tuple(
        RegionPrompt.from_box(frame, (x, y, x + width, y + height))
        for frame, (x, y, width, height) in enumerate(record["bbox"], first)
        if width > 0 and height > 0
    )
    if not prompts:
        raise DataError("no box on any frame", field="bbox", reason="all_masks_absent")
    turn = Turn(ASK, sentence, regions=(Region(prompts),))
    return Sample(name, Media("video", video), (turn,), source=source).validate()
