"""An append-only file of JSON lines that survives `kill -9`: what was written once is never done
again, half a line at the end is dropped, and a file of another run is refused.

The first line says which run it is. Used for predictions and for judge answers.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Mapping, Union

from sama_plugin.atomic import check_writable
from sama_plugin.errors import ConfigError, DataError


class Journal:
    """Records by their "id", in the order they were written.

    Args:
        path: made if it is not there.
        run: what the records depend on; it must equal the first line of a file that exists.

    Attributes:
        done: records of earlier runs and of this one, by id.
    """

    def __init__(self, path: Union[str, Path], run: Mapping[str, Any]):
        self.path = Path(path)
        self.run = json.loads(json.dumps(run))
        self.done: dict[str, dict[str, Any]] = {}
        check_writable(self.path.parent)
        whole = self._read()
        self._file = open(self.path, "ab")  # noqa: SIM115  (closed by `close`)
        if self._file.tell() != whole:
            self._file.truncate(whole)
        if whole == 0:
            self._write({"run": self.run})

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; it is on the disk when this returns."""
        name = record["id"]
        if name in self.done:
            raise DataError("a record is written twice", file=str(self.path), record=name)
        self._write(record)
        self.done[name] = dict(record)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> int:
        """Read what is there; the number of bytes that are whole lines."""
        if not self.path.is_file():
            return 0
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        lines = data[:whole].splitlines()
        if not lines:
            return 0
        self._check_run(self._load(lines[0], 1).get("run"))
        for number, line in enumerate(lines[1:], start=2):
            record = self._load(line, number)
            if "id" not in record or record["id"] in self.done:
                raise DataError(
                    "a line has no id of its own",
                    file=str(self.path),
                    record=f"line {number}",
                    found=record.get("id"),
                )
            self.done[record["id"]] = record
        return whole

    def _load(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"a line is not JSON ({error})", file=str(self.path), record=f"line {number}"
            ) from error
        if not isinstance(record, dict):
            raise DataError("a line is no record", file=str(self.path), record=f"line {number}")
        return record

    def _check_run(self, found: Any) -> None:
        if found == self.run:
            return
        found = found if isinstance(found, dict) else {}
        names = [key for key in {**found, **self.run} if found.get(key) != self.run.get(key)]
        said = "; ".join(f"{n}: {found.get(n)!r} there, {self.run.get(n)!r} here" for n in names)
        raise ConfigError(
            f"{self.path} belongs to another run ({said}); choose another --out folder, or remove "
            "the old one"
        )
