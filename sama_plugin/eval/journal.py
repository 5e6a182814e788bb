"""An append-only file of JSON lines that survives `kill -9`: what was written once is never done
again, half a line at the end is dropped, and a file of another run is refused.

The first line says which run it is. Records stay on disk and are read when they are looked at, so a
run with gigabytes of masks needs the memory of one record. Used for predictions and for judge
answers.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Iterator, Mapping, Union

from sama_plugin.atomic import check_writable
from sama_plugin.errors import ConfigError, DataError


class Lines(Mapping[str, dict[str, Any]]):
    """Records of a journal file by id, in file order; reads a line when it is asked for."""

    def __init__(self, path: Path):
        self.path = path
        self.places: dict[str, int] = {}

    def __getitem__(self, name: str) -> dict[str, Any]:
        with open(self.path, "rb") as stream:
            stream.seek(self.places[name])
            return json.loads(stream.readline())

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


class Journal:
    """Records by their "id", in the order they were written.

    Args:
        path: made if it is not there.
        run: what the records depend on; it must equal the first line of a file that exists.

    Attributes:
        done: records of earlier runs and of this one, by id.
    """

    def __init__(self, path: Union[str, Path], run: Mapping[str, Any]):
        check_writable(Path(path).parent)
        self.path = Path(path)
        self.done, whole = read_journal(self.path, run)
        self._file = open(self.path, "ab")  # noqa: SIM115  (closed by `close`)
        if self._file.tell() != whole:
            self._file.truncate(whole)
        if whole == 0:
            self._write({"run": _plain(run)})

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; it is on the disk when this returns."""
        name = record["id"]
        if name in self.done:
            raise DataError("a record is written twice", file=str(self.path), record=name)
        self.done.places[name] = self._write(record)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _write(self, record: Mapping[str, Any]) -> int:
        place = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        return place


def read_journal(path: Path, run: Mapping[str, Any]) -> tuple[Lines, int]:
    """(records, bytes that are whole lines) of a file that another process may be writing.

    Raises:
        ConfigError: the file belongs to another run. DataError: a line is damaged.
    """
    lines, whole = Lines(path), 0
    if not path.is_file():
        return lines, whole
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                break
            record = _load(line, path, number)
            if number == 1:
                _check_run(record.get("run"), _plain(run), path)
            elif not isinstance(record.get("id"), str) or record["id"] in lines.places:
                raise DataError(
                    "a line has no id of its own",
                    file=str(path),
                    record=f"line {number}",
                    found=record.get("id"),
                )
            else:
                lines.places[record["id"]] = whole
            whole += len(line)
    return lines, whole


def single_values(run: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those that are mappings, as hashes of files are, taken apart."""
    found: dict[str, Any] = {}
    for name, value in run.items():
        parts = value if isinstance(value, Mapping) else None
        single = {name: value} if parts is None else {f"{name} of {k}": parts[k] for k in parts}
        found.update(single)
    return found


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, value in one, value in the other) of the single values of two runs that differ; None
    is a value that a run lacks."""
    one, other = single_values(one), single_values(other)
    pairs = {name: (one.get(name), other.get(name)) for name in {**one, **other}}
    return [(name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]


def _load(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(
            f"a line is not JSON ({error})", file=str(path), record=f"line {number}"
        ) from error
    if not isinstance(record, dict):
        raise DataError("a line is no record", file=str(path), record=f"line {number}")
    return record


def _plain(run: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as JSON gives them back."""
    return json.loads(json.dumps(dict(run)))


def _check_run(found: Any, run: Mapping[str, Any], path: Path) -> None:
    pairs = differing(found if isinstance(found, dict) else {}, run)
    if not pairs:
        return
    said = "; ".join(f"{name}: {there!r} there, {here!r} here" for name, there, here in pairs)
    raise ConfigError(
        f"{path} belongs to another run ({said}); choose another --out folder, or remove the old "
        "one"
    )
