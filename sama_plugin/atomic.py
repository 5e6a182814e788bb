"""Write under a temporary name, rename when whole: an interruption never leaves half a file under
its final name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator, Union

from sama_plugin.errors import OutputError

PathLike = Union[str, Path]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def check_writable(folder: PathLike) -> Path:
    """Create `folder` if needed and make sure files can be created in it; raises OutputError before
    any work is lost.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder}: {error.strerror or error}; choose another output folder"
        ) from error
    return folder


def check_file(path: PathLike) -> Path:
    """Make sure a file can be written at `path`; raises OutputError before any work is lost."""
    path = Path(path)
    check_writable(path.parent)
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; name a file in it")
    return path


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same suffix); it becomes `path` when the block ends
    well, else vanishes.
    """
    path = check_file(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        with _full_disk_named(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


@contextlib.contextmanager
def atomic_dir(path: PathLike) -> Iterator[Path]:
    """Like `atomic_path` for a folder: files written inside appear together; an older folder is
    replaced as a whole.
    """
    path = Path(path)
    check_writable(path.parent)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        with _full_disk_named(path):
            yield temporary
            temporary.chmod(0o755)
        replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
        if path.exists():
            os.replace(path, replaced)
        os.replace(temporary, path)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    """An OSError that says the disk cannot take more becomes an OutputError; others stay, the
    block may also read.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise OutputError(
            f"cannot write {path}: {error.strerror}; nothing of it is left. Make room, or choose "
            "another output folder"
        ) from error
