"""LLaVA instruct mixtures and ChatUniVi video dialogues: plain chat in one JSON list.

Records are those of InternVL's JSONL (`image`, `video` or neither, and `conversations`), which is
read by `internvl_meta`; only the file differs.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional

from sama_plugin.data.formats import files, internvl_meta
from sama_plugin.data.formats.record_list import read_records
from sama_plugin.data.library import Library
from sama_plugin.data.report import RecordReport, Report
from sama_plugin.dialog.sample import Sample


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
) -> Iterator[Sample]:
    """Samples of a LLaVA or ChatUniVi file; see `data.formats.Format`."""
    return read_records(path, root, parse, report, probe)


def parse(
    record: Mapping[str, Any], library: Library, report: RecordReport, source: str = ""
) -> Sample:
    """One record as a Sample; one without an id is named by its place."""
    named = {"id": report.record, **record}
    return internvl_meta.parse(named, library, report, source).validate()
