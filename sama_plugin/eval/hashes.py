"""What a run was made of, as SHA-256: its benchmark file, what lies beside it, its adapter.

Files are read in pieces. Of a folder with a hundred thousand mask pictures one digest is kept: over
the relative name, size and hash of each file. Used by `harness` and `sama eval`.
"""

from __future__ import annotations

import hashlib
import json
import os
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Iterable, Sequence, Union

from sama_plugin.data.formats.files import relative

_PIECE = 1 << 20


def path_hash(path: Union[str, Path]) -> str:
    """SHA-256 of a file, or of the files below a folder with their names and sizes."""
    path = Path(path)
    if not path.is_dir():
        return _content(path)
    return _of_files(path, sorted(one for one in path.rglob("*") if one.is_file()))


def files_hash(paths: Sequence[Path]) -> str:
    """`path_hash` of one file; of several, SHA-256 of their hashes in order."""
    hashes = [path_hash(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def hashes_by_place(files: Iterable[Path], home: Path) -> dict[str, str]:
    """Name to SHA-256: of each file in `home` or above it, and of each folder that others lie in.

    Args:
        files, home: absolute; names are those from `home`, that of a folder ends with a slash.
    """
    places: dict[str, list[Path]] = {}
    for file in sorted(files):
        places.setdefault(_place(relative(str(file), home)), []).append(file)
    return {
        place: _of_files(home, found) if place.endswith("/") else _content(found[0])
        for place, found in places.items()
    }


def _place(name: str) -> str:
    parts = PurePosixPath(name).parts
    above = len(list(takewhile(os.pardir.__eq__, parts)))
    return name if len(parts) == above + 1 else "/".join(parts[: above + 1]) + "/"


def _of_files(root: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        entry = [relative(str(file), root), file.stat().st_size, _content(file)]
        digest.update(json.dumps(entry).encode() + b"\n")
    return digest.hexdigest()


def _content(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
