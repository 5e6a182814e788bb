"""LLaVA instruct mixtures and ChatUniVi video dialogues: plain chat in one JSON list.

Records are those of InternVL's JSONL (`image`, `video` or neither, and `conversations`), which is
read by `internvl_meta`; only the file differs.
"""

from __future__ import annotations

from typing import Iterator, Optional

from sama_plugin.data.formats import files, internvl_meta
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict
from sama_plugin.dialog.sample import Sample


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
) -> Iterator[Sample]:
    """Samples of a LLaVA or ChatUniVi file; see `data.formats.Format`."""
    report, library = report or Strict(), Library(root, probe)
    for number, record in enumerate(files.load_records(path)):
        local = RecordReport(report, str(path), record.get("id", number))
        try:
            record.setdefault("id", number)
            sample = internvl_meta.parse(record, library, local, str(path)).validate()
        except MALFORMED as error:
            local.drop(error)
            continue
        yield sample
