"""What was changed in somebody else's code, why, and how it is put back.

Every change to a host library goes through one `Ledger`: attributes and instance classes are
restored by `revert()`, newest first; an effect on a live object (a model that was attached) is
noted. The launcher prints each line as it happens, so a log says what an unmodified script really
ran with, and ranks compare `digest()` before they train together.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, Callable, ContextManager, Literal, Optional, TypeVar

from sama_plugin.errors import PluginError

ABSENT = object()
T = TypeVar("T")
Verb = Literal["wrapped", "replaced", "added", "swapped the class of", "changed", "allowed"]


@dataclass(frozen=True)
class Change:
    """One line of the ledger: what was done to what, and why."""

    target: str
    reason: str
    verb: Verb

    def __str__(self) -> str:
        return f"{self.verb} {self.target}: {self.reason}"


@dataclass
class Ledger:
    """Changes in order. A context manager: leaving it reverts."""

    announce: Optional[Callable[[str], None]] = None
    changes: list[Change] = field(default_factory=list)
    _undo: list[tuple[Any, str, Any, Any]] = field(default_factory=list)
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def wrap(
        self, owner: Any, attribute: str, make: Callable[[Any], Any], reason: str
    ) -> Callable[..., Any]:
        """Replace `owner.attribute` by `make(original)`; returns the original.

        Raises:
            PluginError: the attribute does not exist (the library is newer or older than this
            plugin knows).
        """
        original = getattr(owner, attribute, ABSENT)
        if original is ABSENT:
            raise PluginError(
                f"cannot wrap {describe(owner)}.{attribute}: there is no such attribute in the "
                "installed version; use the library API (sama_plugin.attach) instead of the "
                "launcher"
            )
        self.put(owner, attribute, make(original), reason, "wrapped")
        return original

    def put(self, owner: Any, attribute: str, value: Any, reason: str, verb: Verb) -> None:
        """Set `owner.attribute` to `value`, to be put back by `revert`."""
        before = vars(owner).get(attribute, ABSENT)
        setattr(owner, attribute, value)
        self._undo.append((owner, attribute, before, vars(owner)[attribute]))
        self._record(Change(f"{describe(owner)}.{attribute}", reason, verb))

    def swap_class(self, instance: Any, subclass: type, reason: str) -> None:
        """Make `instance` one of `subclass`, so that code that names its class still finds it.

        Raises:
            PluginError: `subclass` does not inherit from the instance's class.
        """
        before = type(instance)
        if before is subclass:
            return
        if not issubclass(subclass, before):
            raise PluginError(
                f"cannot make a {subclass.__qualname__} of a {before.__qualname__}: it is no "
                "subclass of it"
            )
        instance.__class__ = subclass
        self._undo.append((instance, "__class__", before, subclass))
        self._record(Change(f"a {describe(before)}", reason, "swapped the class of"))

    def place(self, table: MutableMapping[str, Any], key: str, value: Any, reason: str) -> None:
        """Set `table[key]` (a module in `sys.modules`, a variable of the environment)."""
        before, table[key] = table.get(key, ABSENT), value
        self._undo.append((table, key, before, value))
        self._record(Change(key, reason, "added"))

    def note(self, target: str, reason: str, verb: Verb = "changed") -> None:
        """Record an effect on an object of the script; it lives and dies with that object."""
        self._record(Change(target, reason, verb))

    def hold(self, context: ContextManager[T]) -> T:
        """Enter `context`, to be left when all is put back, with the error that ended the run."""
        return self._held.enter_context(context)

    def revert(self) -> None:
        """Put everything back, newest first.

        Raises:
            PluginError: somebody replaced an attribute after us; it is left as it is.
        """
        with self._held:
            self._put_back()

    def lines(self) -> list[str]:
        """The ledger as text, one line a change."""
        return [str(change) for change in self.changes]

    def digest(self) -> str:
        """Of all lines: equal on ranks that changed the same things for the same reasons."""
        return hashlib.sha256("\n".join(self.lines()).encode()).hexdigest()[:16]

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: Any) -> None:
        held = self._held.pop_all()
        try:
            self.revert()
        finally:
            held.__exit__(*error)

    def _put_back(self) -> None:
        foreign = []
        while self._undo:
            owner, attribute, before, ours = self._undo.pop()
            if isinstance(owner, MutableMapping):
                _restore(owner, attribute, before)
            elif attribute == "__class__":
                foreign += [] if type(owner) is ours else [describe(type(owner))]
                owner.__class__ = before if type(owner) is ours else type(owner)
            elif vars(owner).get(attribute) is not ours:
                foreign.append(f"{describe(owner)}.{attribute}")
            elif before is ABSENT:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, before)
        if foreign:
            raise PluginError(
                f"{', '.join(foreign)} was replaced by other code after the plugin wrapped it; "
                "left as found"
            )

    def _record(self, change: Change) -> None:
        self.changes.append(change)
        if self.announce is not None:
            self.announce(str(change))


def _restore(table: MutableMapping[str, Any], key: str, before: Any) -> None:
    if before is ABSENT:
        table.pop(key, None)
    else:
        table[key] = before


def describe(owner: Any) -> str:
    """The dotted name of a module, class or function."""
    module = getattr(owner, "__module__", "")
    name = getattr(owner, "__qualname__", getattr(owner, "__name__", type(owner).__name__))
    return f"{module}.{name}" if module else name
