"""Importing a host script under its own name.

A script that is run as `__main__` cannot be patched before its imports are bound, and its classes
cannot be unpickled in spawned workers. So the launcher imports `a/b/train.py` as the module it is:
`b.train` when `b` is a package, with the folder above the outermost package on `sys.path`. Worker
processes find it there too: `multiprocessing` hands `sys.path` on.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator, Optional

from sama_plugin.errors import PluginError
from sama_plugin.registry import nearest


@dataclass(frozen=True)
class Target:
    """A host script: the dotted name it is imported under, the folder that makes the name
    importable, its file."""

    module: str
    root: Optional[Path] = None
    file: Optional[Path] = None


def locate(text: str) -> Target:
    """`path/to/script.py` or a dotted module name to a Target; nothing is imported.

    Raises:
        PluginError: no such file or module, no Python source, or a file name that cannot be a
        module name.
    """
    if text.endswith(".py"):
        return _from_file(text)
    with _importable(Path.cwd()):
        try:
            spec = importlib.util.find_spec(text)
        except (ImportError, ValueError) as error:
            raise PluginError(f"cannot find module {text!r}: {error}") from error
    if spec is None or spec.origin is None:
        raise PluginError(
            f"{text!r} is neither a command, a .py file nor an importable module; "
            "run it from the folder that holds the module, or give the path of its file"
        )
    return Target(text, root=Path.cwd(), file=Path(spec.origin))


@contextlib.contextmanager
def imported(target: Target) -> Iterator[ModuleType]:
    """The module of `target`, with its root on `sys.path` for the block.

    Raises:
        PluginError: another module of that name is loaded already.
    """
    with _importable(target.root):
        module = importlib.import_module(target.module)
        found = getattr(module, "__file__", None)
        if target.file is not None and Path(found or "").resolve() != target.file.resolve():
            raise PluginError(
                f"{target.file} should be imported as {target.module!r}, but that name is taken by "
                f"{found}; rename the script"
            )
        yield module


def find_entry(module: ModuleType, name: str) -> Callable[[], Any]:
    """The function of `module` that starts it; PluginError says how to name another."""
    entry = getattr(module, name, None)
    if callable(entry):
        return entry
    functions = [
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    raise PluginError(
        f"{module.__file__} has no function {name}(){nearest(name, functions)}; the launcher "
        "imports a script under its own name, so code below `if __name__ == '__main__':` does not "
        "run. Put it into main(), or name the function: --plugin.entry NAME (found: "
        f"{', '.join(functions) or 'none'})"
    )


def _from_file(text: str) -> Target:
    file = Path(text).resolve()
    if not file.is_file():
        raise PluginError(f"no such script: {text} (looked at {file})")
    names, root = [file.stem], file.parent
    while (root / "__init__.py").is_file() or root in _namespaces(file):
        names.insert(0, root.name)
        root = root.parent
    for name in names:
        if not name.isidentifier():
            raise PluginError(
                f"{file} cannot be imported: {name!r} is not a Python name; rename it"
            )
    return Target(".".join(names), root=root, file=file)


@lru_cache(maxsize=8)
def _namespaces(file: Path) -> frozenset[Path]:
    """Folders above a script that are packages without an `__init__.py`: what the script imports
    from itself lies below the outermost of them.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes
        raise PluginError(f"{file} is no Python source: {error}") from error
    dotted = [name.partition(".")[::2] for node in ast.walk(tree) for name in _imported(node)]
    tops = {
        folder
        for folder in file.parents
        for first, rest in dotted
        if folder.name == first and rest and _exists(folder.joinpath(*rest.split(".")))
    }
    inside = {folder for folder in file.parents for top in tops if top in (folder, *folder.parents)}
    return frozenset(inside)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module or ""]
    return []


def _exists(path: Path) -> bool:
    return path.is_dir() or path.with_suffix(".py").is_file()


@contextlib.contextmanager
def _importable(root: Optional[Path]) -> Iterator[None]:
    if root is None:
        yield
        return
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(root))
