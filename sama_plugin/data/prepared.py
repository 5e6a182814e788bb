"""Samples of a large dataset, written once as lines of our own format, then read from disk.

Parsing joins records, mask dictionaries and media facts; every process that did it would hold the
result in its own memory. `prepare` does it once a machine, keeps lines, their places, and what was
set aside, and later runs, workers and ranks open them in no time. The folder is tied to the
annotation files beside the source, to its options and to the version of this file. Used by
`open_source` for annotation above `index.LARGE` bytes, and by `sama data index`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Optional

import numpy as np

from sama_plugin.atomic import atomic_dir
from sama_plugin.data import index
from sama_plugin.data.formats import read_samples, sama
from sama_plugin.data.report import Quarantine
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import DataError

if TYPE_CHECKING:
    from sama_plugin.data.sources import SourceConfig

VERSION = 2
LINES, ROWS, FACTS = "samples.jsonl", "lines.npy", "facts.json"

_ANNOTATION = {".json", ".jsonl", ".p", ".pkl", ".pickle", ".xml"}


def annotation_files(path: Path) -> list[Path]:
    """The annotation file and those beside it, or all in a folder; media are left out."""
    folder = path if path.is_dir() else path.parent
    beside = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in _ANNOTATION]
    return sorted({*beside, *([path] if path.is_file() else [])})


def is_prepared(config: SourceConfig) -> bool:
    """Whether the source was prepared ahead of time, or is large enough that it should be."""
    path = Path(config.path)
    if config.format == "sama" or not path.exists():
        return False
    size = sum(file.stat().st_size for file in annotation_files(path))
    return size > index.LARGE or (folder_of(config) / FACTS).is_file()


def prepare(config: SourceConfig, report: Quarantine, progress: Any = None) -> sama.LazyLines:
    """The samples of a source, from the prepared folder; it is made if there is none.

    Args:
        report: gets what was set aside when the folder was made.
        progress: called with the number of samples written so far.

    Raises:
        DataError: as `read_samples`, or more is set aside than the report's budget.
    """
    place = folder_of(config)
    with index.locked(place):
        if not (place / FACTS).is_file():
            _make(config, place, report.budget, progress)
    for entry in json.loads((place / FACTS).read_text())["dropped"]:
        report.drop(DataError(**entry))
    root = config.root or Path(config.path).parent
    return sama.LazyLines(place / LINES, root, np.load(place / ROWS, mmap_mode="r"))


def folder_of(config: SourceConfig) -> Path:
    """Where a source is prepared: named by what decides its samples."""
    path = Path(config.path).absolute()
    facts = [
        (str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in annotation_files(path)
    ]
    root = str(Path(config.root or path.parent).absolute())
    key = [VERSION, config.format, str(path), root, config.options, config.probe, facts]
    digest = hashlib.blake2b(json.dumps(key, default=str).encode(), digest_size=8).hexdigest()
    return index.cache_folder() / "prepared" / f"{config.name}-{digest}"


def _make(config: SourceConfig, place: Path, budget: Optional[int], progress: Any) -> None:
    root, found = config.root or Path(config.path).parent, Quarantine(budget)
    rows: list[tuple[int, bool]] = []

    def samples() -> Iterator[Sample]:
        options = {"probe": config.probe, **config.options}
        for sample in read_samples(config.format, config.path, root, found, **options):
            yield sample
            if progress is not None:
                progress(len(rows))

    with atomic_dir(place) as temporary:
        with open(temporary / LINES, "wb") as out:
            for sample in samples():
                rows.append((out.tell(), bool(sample.targets)))
                out.write(sama.line_of(sample, root))
        np.save(temporary / ROWS, np.array(rows, sama.ROW))
        dropped = [_facts(error) for error in found.dropped]
        (temporary / FACTS).write_text(json.dumps({"dropped": dropped}))


def _facts(error: DataError) -> dict[str, Any]:
    names = ("message", "file", "record", "field", "found", "expected", "reason")
    values = {name: getattr(error, name) for name in names}
    words = {name: value if value is None else str(value) for name, value in values.items()}
    return {**words, "questions": error.questions}
