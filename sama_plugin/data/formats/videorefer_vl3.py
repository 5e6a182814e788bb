"""VideoRefer records of the VideoLLaMA3 variant: `masks` in place of `annotation`.

One entry an object: `{frame: RLE}` for a video, an RLE or polygons for an image; `video` is a list
of one path. A plain string, and objects masked on several frames, are read as meant and noted.
The rest is that of VideoRefer-700K.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional

from sama_plugin.data.formats import files, videorefer_700k
from sama_plugin.data.formats.record_list import read_records
from sama_plugin.data.library import Library
from sama_plugin.data.report import RecordReport, Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import DataError


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
) -> Iterator[Sample]:
    """Samples of a masks-flavour file; see `data.formats.Format`."""
    return read_records(path, root, parse, report, probe)


def parse(
    record: Mapping[str, Any], library: Library, report: RecordReport, source: str = ""
) -> Sample:
    """One record as a Sample."""
    plain = _as_annotation(record, report)
    return videorefer_700k.parse(plain, library, report, source)


def _as_annotation(record: Mapping[str, Any], local: RecordReport) -> dict[str, Any]:
    """The record in the `annotation` flavour."""
    plain = {key: value for key, value in record.items() if key != "masks"}
    plain.setdefault("id", str(local.record))
    if isinstance(record.get("video"), list):
        if len(record["video"]) != 1:
            raise DataError(
                "one video a record", field="video", found=record["video"], reason="missing_media"
            )
        plain["video"] = record["video"][0]
    elif record.get("video") is not None:
        local.note(DataError("a path in place of a list", field="video", reason="plain_path"))
    plain["annotation"] = [_frames(entry) for entry in record.get("masks") or ()]
    if any(len(frames) > 1 for frames in plain["annotation"]):
        error = DataError("an object is masked on several frames", reason="several_frames")
        local.note(error, "masks")
    return plain


def _frames(entry: Any) -> dict[str, Any]:
    if isinstance(entry, Mapping) and "counts" not in entry:
        return {str(frame): {"segmentation": rle} for frame, rle in entry.items()}
    return {"0": {"segmentation": entry}}
