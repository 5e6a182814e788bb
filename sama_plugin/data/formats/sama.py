"""Our own format: one canonical Sample a line (`Sample.to_json`), media paths relative to the media
folder.

The only format with every feature: prompts of all kinds, several regions and targets a turn,
unknown masks, frame strides. Lines are parsed when they are asked for, so a file may be larger than
memory (`LazyLines`).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional, Sequence, Union

import numpy as np

from sama_plugin.data.formats import files
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, Report, Strict, as_data_error
from sama_plugin.dialog.sample import Media, Sample
from sama_plugin.errors import DataError

PathLike = Union[str, Path]


def parse(record: dict[str, Any], library: Library) -> Sample:
    """One line as a Sample with absolute media paths."""
    sample = Sample.from_json(record)
    found = tuple(
        library.find(source, record=sample.id, field="media.source")
        for source in sample.media.sources
    )
    if not found:
        return sample
    source = found if isinstance(sample.media.source, tuple) else found[0]
    return dataclasses.replace(sample, media=dataclasses.replace(sample.media, source=source))


def read(
    path: PathLike, root: PathLike, *, report: Optional[Report] = None, probe: bool = True
) -> Iterator[Sample]:
    """Samples of a JSON-lines file; see `data.formats.Format`."""
    report, library = report or Strict(), Library(root, probe)
    seen: set[str] = set()
    for number, line in files.lines(path):
        try:
            sample = parse(files.parse_line(line), library)
            if sample.id in seen:
                raise DataError("the id occurs twice", record=sample.id, reason="duplicate_id")
            seen.add(sample.id)
        except MALFORMED as error:
            report.drop(as_data_error(error).at(file=str(path), record=f"line {number}"))
            continue
        yield sample


def write(samples: Iterable[Sample], path: PathLike, root: PathLike) -> int:
    """Write samples as JSON lines with media paths relative to `root`; returns their number."""
    return files.write_lines(path, (_portable(sample, root).to_json() for sample in samples))


ROW = np.dtype([("start", "<u8"), ("grounded", "?")])
"""Where a line starts, and whether it has targets."""


class LazyLines(Sequence[Sample]):
    """The samples of a JSON-lines file, read from disk when indexed.

    Args:
        rows: (lines,) of `ROW`, e.g. memory-mapped; None looks through the file.

    Attributes:
        grounded: (lines,) bool, whether each line has targets; told from its text.
    """

    def __init__(self, path: PathLike, root: PathLike, rows: Optional[np.ndarray] = None):
        self.path, self._library = str(path), Library(root, probe=False)
        self.rows = _rows(path) if rows is None else rows

    def __getstate__(self) -> dict[str, Any]:
        mapped = isinstance(self.rows, np.memmap)
        return {**self.__dict__, "rows": self.rows.filename if mapped else self.rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not isinstance(self.rows, np.ndarray):
            self.rows = np.load(self.rows, mmap_mode="r")

    @property
    def grounded(self) -> np.ndarray:
        """(lines,) bool."""
        return self.rows["grounded"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        with files.open_binary(self.path) as file:
            file.seek(int(self.rows[index]["start"]))
            line = file.readline()
        try:
            return parse(files.parse_line(line), self._library)
        except MALFORMED as error:
            place = {"file": self.path, "record": f"line {self._number(index)}"}
            raise as_data_error(error).at(**place) from error

    def _number(self, index: int) -> int:
        """The line's number in the file, where blank lines count too."""
        with files.open_binary(self.path) as file:
            starts = itertools.accumulate(map(len, file), initial=0)
            return next(n for n, at in enumerate(starts, 1) if at == self.rows[index]["start"])


def line_of(sample: Sample, root: PathLike) -> bytes:
    """The line of a sample, with media paths relative to `root`."""
    record = _portable(sample, root).to_json()
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"


def _rows(path: PathLike) -> np.ndarray:
    rows, position = [], 0
    with files.open_binary(path) as file:
        for line in file:
            if not files.is_blank(line):
                rows.append((position, b'"targets":' in line))
            position += len(line)
    return np.array(rows, ROW)


def _portable(sample: Sample, root: PathLike) -> Sample:
    media: Media = sample.media
    if isinstance(media.source, tuple):
        source: Any = tuple(files.relative(path, root) for path in media.source)
    elif media.source is not None:
        source = files.relative(media.source, root)
    else:
        return sample
    return dataclasses.replace(sample, media=dataclasses.replace(media, source=source))
