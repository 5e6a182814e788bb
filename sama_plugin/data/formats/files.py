"""Reading annotation files: JSON, JSON lines, pickles and mask pictures, with errors that name the
file and the place.

Pickles of the original releases hold only built-in containers; the reader refuses to import
anything, so a pickle that carries code is an error and not an execution.
"""

from __future__ import annotations

import codecs
import json
import os
import pickle
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, NoReturn, Optional, Sequence, Union

import numpy as np

from sama_plugin.atomic import atomic_path
from sama_plugin.data import index
from sama_plugin.errors import DataError
from sama_plugin.media.elsewhere import is_address
from sama_plugin.media.masks import read_png

PathLike = Union[str, Path]

_PICKLES = (".p", ".pkl", ".pickle")
_DAMAGED = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    TypeError,
    ValueError,
)

_OPENED: ContextVar[Optional[set[Path]]] = ContextVar("opened annotation files", default=None)


@contextmanager
def opened_files() -> Iterator[set[Path]]:
    """Annotation files, mask pictures too, that are opened in the block, absolute; filled while it
    runs."""
    found: set[Path] = set()
    token = _OPENED.set(found)
    try:
        yield found
    finally:
        _OPENED.reset(token)


def note_opened(path: PathLike) -> None:
    """Count a file among the `opened_files`; for who reads it in a way of its own."""
    opened = _OPENED.get()
    if opened is not None and os.path.isfile(path):
        opened.add(Path(path).absolute())


def load(path: PathLike) -> Any:
    """Content of a `.json` or pickle file (`.p`, `.pkl`, `.pickle`); of a large JSON file a view
    that parses entries when they are asked for (see `data.index`).
    """
    if str(path).endswith(_PICKLES):
        return load_pickle(path)
    if os.path.isfile(path) and os.path.getsize(path) > index.LARGE:
        note_opened(path)
        return index.open_index(path)
    return load_json(path)


def load_json(path: PathLike) -> Any:
    """Content of a JSON file (a byte order mark is accepted; NaN, infinities and a name that an
    object has twice are not).
    """
    with _open(path, "r", encoding="utf-8-sig") as file:
        try:
            return json.load(file, parse_constant=_refuse_constant, object_pairs_hook=_refuse_twins)
        except DataError as error:
            raise error.at(file=str(path)) from None
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"not valid JSON: {error}", file=str(path), reason="bad_json"
            ) from error


def load_records(path: PathLike) -> Sequence[dict[str, Any]]:
    """A JSON or pickle file that must hold a list of records."""
    return as_records(load(path), path)


def as_records(records: Any, path: PathLike) -> Sequence[dict[str, Any]]:
    """The content of a file, if it is a list of records."""
    if isinstance(records, index.IndexedRecords):
        return records
    if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
        parts = records if isinstance(records, list) else [records]
        odd = next(one for one in parts if not isinstance(one, dict) or one is records)
        raise DataError(
            "the file should hold a list of records",
            file=str(path),
            found=type(odd).__name__,
            expected="a list of JSON objects",
            reason="bad_json",
        )
    return records


def load_mapping(path: PathLike) -> Mapping[str, Any]:
    """A JSON or pickle file that must hold one mapping."""
    content = load(path)
    if not isinstance(content, Mapping):
        raise DataError(
            "the file should hold a mapping",
            file=str(path),
            found=type(content).__name__,
            expected="a JSON object",
            reason="bad_json",
        )
    return content


def load_tables(path: PathLike, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """A JSON file of lists of rows with ids, as COCO has them: the lists of these names.

    Raises:
        DataError: `missing_field`, `bad_json`, or `duplicate_id`.
    """
    content = load_mapping(path)
    for name in names:
        rows = content.get(name)
        if not isinstance(rows, list):
            raise DataError(
                "the file has no such list of rows",
                file=str(path),
                field=name,
                found=type(rows).__name__,
                expected="list",
                reason="missing_field",
            )
        seen: set[Any] = set()
        for row in rows:
            if not isinstance(row, Mapping) or not isinstance(row.get("id"), (int, str)):
                raise DataError(
                    "a row has no id", file=str(path), field=name, reason="missing_field"
                )
            if row["id"] in seen:
                raise DataError(
                    "two rows have the same id",
                    file=str(path),
                    record=row["id"],
                    field=name,
                    reason="duplicate_id",
                )
            seen.add(row["id"])
    return {name: content[name] for name in names}


def parse_line(line: bytes) -> dict[str, Any]:
    """One line of a JSON-lines file as a record; who reads the file knows its place.

    Raises:
        DataError: `bad_json_line`, also where the bytes are not UTF-8.
    """
    try:
        record = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the line is not valid JSON: {error}", reason="bad_json_line") from error
    if not isinstance(record, dict):
        raise DataError(
            "the line is not a JSON object", found=type(record).__name__, reason="bad_json_line"
        )
    return record


def lines(path: PathLike) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers in the file, counted from 1."""
    with _open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not is_blank(line):
                yield number, line


def is_blank(line: bytes) -> bool:
    """Whether a line holds white space alone, or a byte order mark."""
    return not line.strip() or line.strip() == codecs.BOM_UTF8


def open_binary(path: PathLike) -> Any:
    """The file, open for reading bytes."""
    return _open(path, "rb")


def load_pickle(path: PathLike) -> Any:
    """A pickle of built-in containers; one that needs an import is refused."""
    with _open(path, "rb") as file:
        try:
            return _PlainUnpickler(file, encoding="latin1").load()  # Python 2 text
        except _DAMAGED as error:
            raise DataError(
                f"not a plain pickle: {error}", file=str(path), reason="bad_pickle"
            ) from error


def load_labels(path: PathLike) -> np.ndarray:
    """Labels of a mask picture, uint8 (H, W); see `media.masks.read_png`."""
    note_opened(path)
    return read_png(path)


def write_json(path: PathLike, content: Any) -> None:
    """Write JSON; the file appears whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file)


def write_lines(path: PathLike, records: Iterable[Mapping[str, Any]]) -> int:
    """Write JSON lines; returns their number. The file appears whole or not at all."""
    count = 0
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
    return count


def relative(path: str, root: PathLike) -> str:
    """`path` as records spell it: from `root`, with forward slashes; an address as it is."""
    if is_address(path):
        return path
    return Path(os.path.relpath(path, root)).as_posix()


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of two entries of one name the parser would keep the last in silence."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise DataError("a name occurs twice in an object", found=twice, reason="duplicate_id")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _open(path: PathLike, mode: str, **options: Any) -> Any:
    note_opened(path)
    try:
        return open(path, mode, **options)
    except OSError as error:
        sought = isinstance(error, FileNotFoundError) and not os.path.isabs(path)
        start = f" (the path starts where the command runs: {os.getcwd()})" if sought else ""
        raise DataError(
            f"cannot read the annotation file: {error.strerror or error}{start}",
            file=str(path),
            reason="missing_file",
        ) from error
