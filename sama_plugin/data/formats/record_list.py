"""A JSON list of records with an `id` each, every one a sample: Osprey and the VideoRefer files."""

from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping, Optional

from sama_plugin.data.formats import files
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict
from sama_plugin.dialog.sample import Sample

Parse = Callable[[Mapping[str, Any], Library, RecordReport, str], Sample]
"""(record, media, where to report, annotation file) to a sample."""


def read_records(
    path: files.PathLike,
    root: files.PathLike,
    parse: Parse,
    report: Optional[Report] = None,
    probe: bool = True,
) -> Iterator[Sample]:
    """Samples of the records that `parse` accepts; the others go to the report."""
    report, library = report or Strict(), Library(root, probe)
    for number, record in enumerate(files.load_records(path)):
        local = RecordReport(report, str(path), record.get("id", number))
        try:
            sample = parse(record, library, local, str(path))
        except MALFORMED as error:
            local.drop(error)
            continue
        yield sample
