"""A read-only index of a large JSON file: where each top-level entry starts and ends.

A mask dictionary of some gigabytes is not parsed by every process: the index is built once, by
streaming, kept beside the file (or in the cache folder) and memory-mapped; an entry is read from
the file when it is asked for. Several processes wait for one builder, and a build that was stopped
goes on where it was. `formats.files` returns these views for files above `LARGE`; `sama data index`
builds them ahead of time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Union

import numpy as np

from sama_plugin.atomic import atomic_path, check_writable
from sama_plugin.errors import DataError, OutputError

PathLike = Union[str, Path]
Progress = Callable[[int, int], None]

LARGE = 64 * 2**20
"""Files above this many bytes are indexed and not loaded."""

CHUNK = 2**24
VERSION = 1

_TAIL = 4096
_CUT_OFF = 16
"""An error at most so many signs before the end of what was read may come of its end: no name, no
escape and no exponent is longer."""

_SPACE = re.compile(r"[ \t\r\n]*")
_BEHIND = tuple(" \t\r\n,]}")
_ROW = np.dtype([("key", "<u8"), ("start", "<u8"), ("length", "<u8"), ("order", "<u8")])


def cache_folder() -> Path:
    """Where indices go that cannot lie beside their file: SAMA_CACHE, or the user's cache."""
    return Path(os.environ.get("SAMA_CACHE") or Path.home() / ".cache" / "sama_plugin")


def open_index(
    path: PathLike, progress: Optional[Progress] = None
) -> Union[IndexedMapping, IndexedRecords]:
    """The indexed view of a JSON file that holds one object or one list; built if there is none.

    Args:
        progress: called with bytes done and bytes in all.

    Raises:
        DataError: `bad_json` (cut off, not JSON, not an object or list) or `duplicate_id`.
    """
    source = Path(path).absolute()
    place = _place(source)
    with locked(place):
        if not _fresh(place, source):
            _build(source, place, progress)
    rows = np.load(place, mmap_mode="r")
    view = IndexedMapping if rows[0]["length"] == 0 else IndexedRecords
    return view(source, rows)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the others wait until the first is done.

    Raises:
        OutputError: nothing can be written there.
    """
    try:
        check_writable(path.parent)
    except OutputError as error:
        raise OutputError(f"{error}; SAMA_CACHE names the folder of indices") from error
    with open(f"{path}.lock", "w") as lock:
        try:
            import fcntl
        except ImportError:  # not on Windows: there the last builder wins, whole
            yield
            return
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Entries:
    """Byte ranges of a file's entries; the file is opened in each process that reads."""

    def __init__(self, path: Path, rows: np.ndarray):
        self.path, self._rows = path, rows
        self._opened: tuple[int, int] = (-1, -1)  # process, descriptor

    def __len__(self) -> int:
        return len(self._rows) - 1

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], np.load(_place(state["path"]), mmap_mode="r"))

    def __del__(self) -> None:
        if self._opened[0] == os.getpid():
            os.close(self._opened[1])

    def _text(self, number: int) -> str:
        if self._opened[0] != os.getpid():
            self._opened = (os.getpid(), os.open(self.path, os.O_RDONLY))
        row = self._rows[number + 1]
        return os.pread(self._opened[1], int(row["length"]), int(row["start"])).decode("utf-8")


class IndexedRecords(_Entries, Sequence):
    """The entries of a JSON list, each parsed when it is indexed."""

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"{self.path} has {len(self)} entries, not {number}")
        return _decoder().decode(self._text(number % len(self)))


class IndexedMapping(_Entries, Mapping):
    """The entries of a JSON object, each parsed when it is looked up."""

    def __getitem__(self, key: str) -> Any:
        wanted, low, high = _digest(key), 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if int(self._rows[1 + int(self._rows[middle + 1]["order"])]["key"]) < wanted:
                low = middle + 1
            else:
                high = middle
        if low < len(self):
            found, value = self._entry(int(self._rows[low + 1]["order"]))
            if found == key:
                return value
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return (self._entry(number)[0] for number in range(len(self)))

    def items(self) -> Any:
        """(key, value) in file order, each entry read once."""
        return (self._entry(number) for number in range(len(self)))

    def _entry(self, number: int) -> tuple[str, Any]:
        text, decoder = self._text(number), _decoder()
        key, end = decoder.raw_decode(text)
        return key, decoder.decode(text[text.index(":", end) + 1 :])


def _place(source: Path) -> Path:
    """The index file: beside the source, or in the cache folder where that cannot be written."""
    beside = source.with_name(f"{source.name}.sama-index.npy")
    if beside.exists() or os.access(source.parent, os.W_OK):
        return beside
    return cache_folder() / "index" / f"{_digest(str(source)):016x}-{source.name}.npy"


def _fresh(place: Path, source: Path) -> bool:
    try:
        found = np.load(place, mmap_mode="r")[0]
        return bool(found in _header(source, 0)) or bool(found in _header(source, 1))
    except (OSError, ValueError, IndexError):
        return False


def _header(source: Path, kind: int) -> np.ndarray:
    """(1,) row that ties an index to its file; kind 0 is an object, 1 a list."""
    facts = os.stat(source)
    return np.array([(facts.st_size, facts.st_mtime_ns, kind, VERSION)], _ROW)


def _build(source: Path, place: Path, progress: Optional[Progress]) -> None:
    """Write the index, resuming the rows of a build of the same file that was stopped."""
    partial = Path(f"{place}.partial")
    with open(source, "rb") as file:
        scanner = _Scanner(file, source)
        header = _header(source, 0 if scanner.mapping else 1)
        kept = _kept(partial, header)
        if len(kept) > 1:
            scanner.seek(int(kept[-1]["start"] + kept[-1]["length"]))
        size = os.path.getsize(source)
        with open(partial, "r+b" if len(kept) else "wb") as out:
            if len(kept):
                out.truncate(len(kept) * _ROW.itemsize)
                out.seek(0, os.SEEK_END)
            else:
                out.write(header.tobytes())
            rows: list[tuple[int, int, int, int]] = []
            for row in scanner.entries():
                rows.append(row)
                if len(rows) >= 4096:
                    out.write(np.array(rows, _ROW).tobytes())
                    out.flush()
                    rows = []
                    if progress is not None:
                        progress(row[1] + row[2], size)
            out.write(np.array(rows, _ROW).tobytes())
    found = np.fromfile(partial, _ROW)
    if scanner.mapping:
        order = np.argsort(found["key"][1:], kind="stable")
        keys = found["key"][1:][order]
        twice = np.flatnonzero(keys[1:] == keys[:-1])
        if len(twice):
            row = found[1 + order[twice[0] + 1]]
            raise DataError(
                "a key occurs twice",
                file=str(source),
                found=f"at byte {int(row['start'])}",
                reason="duplicate_id",
            )
        found["order"][1:] = order
    with atomic_path(place) as temporary, open(temporary, "wb") as out:
        np.save(out, found)
    partial.unlink()


def _kept(partial: Path, header: np.ndarray) -> np.ndarray:
    """Whole rows of an earlier build of the same file; empty if there is none."""
    if not partial.is_file():
        return np.empty(0, _ROW)
    whole = partial.stat().st_size // _ROW.itemsize
    rows = np.fromfile(partial, _ROW, count=whole)
    return rows if len(rows) and rows[0] == header[0] else np.empty(0, _ROW)


class _Scanner:
    """Walks over the entries of a JSON file without keeping them.

    Text is decoded as latin-1, one character a byte, so that places in it are places in the file;
    no byte of a longer UTF-8 character looks like JSON's own signs.
    """

    def __init__(self, file: Any, path: Path):
        self.file, self.path, self.decoder = file, path, _decoder()
        self.text, self.base, self.place, self.ended = "", 0, 0, False
        self._more()
        self.place = 3 if self.text.startswith("\xef\xbb\xbf") else 0
        opening = self._next()
        if opening not in ("{", "["):
            raise self._error("it holds neither an object nor a list")
        self.mapping = opening == "{"
        self.place += 1
        self.first = True
        self._check_end()

    def _check_end(self) -> None:
        """Say at once that a file is cut off, and not after reading all of it."""
        here, size = self.file.tell(), self.file.seek(0, os.SEEK_END)
        self.file.seek(max(0, size - _TAIL))
        last = self.file.read().rstrip(b" \t\r\n")[-1:].decode("latin-1")
        self.file.seek(here)
        closing = "}" if self.mapping else "]"
        if last and last != closing:
            raise DataError(
                f"not valid JSON: {size} bytes end with {last!r} and not with {closing!r}, so the "
                "file is cut off or something follows its value",
                file=str(self.path),
                reason="bad_json",
            )

    def seek(self, byte: int) -> None:
        """Go on behind an entry."""
        self.file.seek(byte)
        self.text, self.base, self.place, self.ended, self.first = "", byte, 0, False, False

    def entries(self) -> Iterator[tuple[int, int, int, int]]:
        """(digest of the key, start, length, 0) of every entry."""
        closing = "}" if self.mapping else "]"
        while True:
            sign = self._next()
            if sign == closing:
                break
            if not self.first:
                if sign != ",":
                    raise self._error("',' or the end of the file's value was expected")
                self.place += 1
                self._next()
            self.first = False
            yield self._entry()
        self.place += 1
        if self._next() != "":
            raise self._error("something follows the end of the file's value")

    def _entry(self) -> tuple[int, int, int, int]:
        step = CHUNK
        while True:
            try:
                key, end = 0, self.place
                if self.mapping:
                    if self.text[end] != '"':
                        raise self._error("a key was expected")
                    _, end = self.decoder.raw_decode(self.text, end)
                    key = _digest(json.loads(self.text[self.place : end].encode("latin-1")))
                    end = self.text.index(":", end) + 1
                    end = _SPACE.match(self.text, end).end()
                _, end = self.decoder.raw_decode(self.text, end)
                if self.ended or self.text[end : end + 1] in _BEHIND:
                    break  # else the text may end inside a number
            except DataError:
                raise
            except (ValueError, IndexError, RecursionError) as error:
                if self.ended or self._certain(error):
                    raise self._error(str(error)) from error
            self._more(step)
            step *= 2
        start, length = self.base + self.place, end - self.place
        self.place = end
        return key, start, length, 0

    def _certain(self, error: Exception) -> bool:
        """Whether reading on cannot mend it."""
        if not isinstance(error, json.JSONDecodeError):
            return isinstance(error, (RecursionError, _NotJson))
        opened = error.msg.startswith("Unterminated string")
        return not opened and error.pos < len(self.text) - _CUT_OFF

    def _next(self) -> str:
        """The next sign that is not white space, "" at the end of the file."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in " \t\r\n":
                self.place += 1
            if self.place < len(self.text):
                return self.text[self.place]
            if self.ended:
                return ""
            self._more()

    def _more(self, count: int = 0) -> None:
        found = self.file.read(count or CHUNK)
        self.ended = not found
        self.text = self.text[self.place :] + found.decode("latin-1")
        self.base += self.place
        self.place = 0

    def _error(self, message: str) -> DataError:
        byte = self.base + self.place
        return DataError(
            f"not valid JSON near byte {byte}: {message}", file=str(self.path), reason="bad_json"
        )


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(parse_constant=_refuse_constant)


class _NotJson(ValueError):
    """A constant that Python reads and JSON does not have."""


def _refuse_constant(name: str) -> Any:
    raise _NotJson(f"{name} is not JSON")


def _digest(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest(), "little")
