"""Acting when a script imports something, so that nothing heavy is imported before the script does.

A host script takes seconds to import torch and transformers. A bridge that imported them to change
them would add nothing to that, but would spend it before the script's first line, and in scripts
that only print their help. So bridges wait:

- `after_import`: a module was just executed, nobody has used it yet; a class of it can be wrapped.
- `before_import`: something of a package is about to be looked for; what it needs can be supplied.

Both are finders at the head of `sys.meta_path` that find nothing themselves, inside a `with` block
(`Ledger.hold` keeps one until everything is put back). Workers that are forked inherit them;
spawned ones start without, as they start without the launcher.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable, Iterator, Optional


@contextlib.contextmanager
def after_import(name: str, action: Callable[[ModuleType], None]) -> Iterator[None]:
    """Call `action(module)` when `name` was imported, before its importer sees it; at once if it
    was imported already. What `action` raises fails the import.
    """
    present = sys.modules.get(name)
    if present is not None:
        action(present)
        yield
        return
    with _at_the_head(_After(name, action)):
        yield


@contextlib.contextmanager
def before_import(concerns: Callable[[str], bool], action: Callable[[], None]) -> Iterator[None]:
    """Call `action()` once, when the first module whose dotted name `concerns` is looked for."""
    with _at_the_head(_Before(concerns, action)):
        yield


@contextlib.contextmanager
def _at_the_head(finder: MetaPathFinder) -> Iterator[None]:
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(finder)


class _Before(MetaPathFinder):
    def __init__(self, concerns: Callable[[str], bool], action: Callable[[], None]):
        self.concerns, self.action, self.waits = concerns, action, True

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        if self.waits and self.concerns(name):
            self.waits = False  # first: the action imports too
            self.action()
        return None


class _After(MetaPathFinder):
    def __init__(self, name: str, action: Callable[[ModuleType], None]):
        self.name, self.action, self.searching = name, action, False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        if name != self.name or self.searching:
            return None
        self.searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Followed(spec.loader, self.action)
        return spec


class _Followed(Loader):
    """A module's own loader, and then the action; the module keeps no trace of it."""

    def __init__(self, loader: Any, action: Callable[[ModuleType], None]):
        self.loader, self.action = loader, action

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        self.action(module)
