"""Clips that are not files of this machine's disk: object stores and members of tar archives.

`s3://bucket/a.mp4`, or any address that fsspec knows, and `shard.tar!a.mp4` become a file in the
cache folder (`SAMA_CACHE`, else `~/.cache/sama_plugin`), copied once and used by every later run,
worker and rank of the machine; an address whose content changes is copied again. Of an archive only
the member is read. Nothing is ever removed from the cache. Used by `open_video` and by the library
of media paths.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional, Union

from sama_plugin.atomic import atomic_path
from sama_plugin.errors import MediaError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_ARCHIVE = ".tar!"


def is_address(source: str) -> bool:
    """Whether a path has a scheme, as `s3://bucket/a.mp4`."""
    return _ADDRESS.match(source) is not None


def split_member(source: str) -> tuple[str, Optional[str]]:
    """ "x.tar!a/b.mp4" to ("x.tar", "a/b.mp4"); a path without a member to (path, None)."""
    before, found, member = source.partition(_ARCHIVE)
    return (before + _ARCHIVE[:-1], member) if found and member else (source, None)


def local_path(source: Union[str, Path]) -> Path:
    """The file to read for a path: itself, or its copy in the cache.

    Raises:
        MediaError: fsspec or the package for the scheme is not installed, there is no such object,
            archive or member, or the archive is damaged or compressed.
    """
    if is_address(str(source)):
        return _fetched(str(source))
    archive, member = split_member(str(source))
    path = Path(source).expanduser()
    if member is None or path.exists():  # a file may be called so
        return path
    return _member(Path(archive).expanduser(), member)


def _fetched(address: str) -> Path:
    try:
        import fsspec
    except ImportError as error:
        raise MediaError(f"reading {address} needs fsspec: pip install fsspec") from error
    try:
        store, inside = fsspec.core.url_to_fs(address)
        copy = _cached(address, store.ukey(inside))
        if not copy.exists():
            with store.open(inside, "rb") as remote:
                _write(remote, copy)
    except ImportError as error:
        raise MediaError(f"reading {address} needs another package: {error}") from error
    except FileNotFoundError as error:
        raise MediaError(f"there is no file {address}") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"{address} cannot be fetched: {error}") from error
    return copy


def _member(archive: Path, name: str) -> Path:
    if not archive.is_file():
        raise MediaError(f"there is no archive {archive} (for its member {name!r})")
    facts = archive.stat()
    version = f"{facts.st_size} {facts.st_mtime_ns}"
    places = _places(str(archive), version)
    if name not in places:
        raise MediaError(f"{archive} has no file {name!r} among its {len(places)} files")
    copy = _cached(f"{archive.absolute()}!{name}", version)
    if not copy.exists():
        start, size = places[name]
        with open(archive, "rb") as file:
            file.seek(start)
            content = file.read(size)
        if len(content) < size:
            raise MediaError(f"{archive} is truncated inside {name!r}; copy or download it again")
        with atomic_path(copy) as temporary:
            temporary.write_bytes(content)
    return copy


@lru_cache(maxsize=64)
def _places(archive: str, version: str) -> dict[str, tuple[int, int]]:
    """(start, size) of every plain file of an archive, from its headers alone."""
    try:
        with tarfile.open(archive, "r:") as file:
            return {
                member.name: (member.offset_data, member.size)
                for member in file
                if member.isreg() and not member.issparse()
            }
    except (tarfile.TarError, OSError) as error:
        raise MediaError(
            f"{archive} cannot be read as an uncompressed tar archive: {error}"
        ) from error


def _cached(address: str, version: str) -> Path:
    folder = os.environ.get("SAMA_CACHE") or Path.home() / ".cache" / "sama_plugin"
    key = hashlib.sha256(f"{address}\n{version}".encode()).hexdigest()[:32]
    name = re.split(r"[/\\!]", address)[-1]
    return Path(folder) / "media" / key / (name if name.strip(".") else "clip")


def _write(remote: Any, copy: Path) -> None:
    with atomic_path(copy) as temporary, open(temporary, "wb") as file:
        shutil.copyfileobj(remote, file, 1 << 20)
