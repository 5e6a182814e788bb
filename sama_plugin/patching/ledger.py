"""What was changed in somebody else's code, why, and how it is put back.

Every change to a host library goes through one `Ledger`: a wrapped attribute is restored by
`revert()`, newest first; an effect on a live object (a model that was attached) is noted. The
launcher prints each line as it happens, so a log says what an unmodified script really ran with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from sama_plugin.errors import PluginError

_ABSENT = object()


@dataclass(frozen=True)
class Change:
    """One line of the ledger: what was touched and why; `undone` by `revert` or not (objects of the
    script)."""

    target: str
    reason: str
    undone: bool

    def __str__(self) -> str:
        return f"{'wrapped' if self.undone else 'changed'} {self.target}: {self.reason}"


@dataclass
class Ledger:
    """Changes in order. A context manager: leaving it reverts."""

    announce: Optional[Callable[[str], None]] = None
    changes: list[Change] = field(default_factory=list)
    _undo: list[tuple[Any, str, Any, Any]] = field(default_factory=list)

    def wrap(
        self, owner: Any, attribute: str, make: Callable[[Any], Any], reason: str
    ) -> Callable[..., Any]:
        """Replace `owner.attribute` by `make(original)`; returns the original.

        Raises:
            PluginError: the attribute does not exist (the library is newer or older than this
            plugin knows).
        """
        original = getattr(owner, attribute, _ABSENT)
        target = f"{_name(owner)}.{attribute}"
        if original is _ABSENT:
            raise PluginError(
                f"cannot wrap {target}: there is no such attribute in the installed version; "
                "use the library API (sama_plugin.attach) instead of the launcher"
            )
        before = vars(owner).get(attribute, _ABSENT)
        replacement = make(original)
        setattr(owner, attribute, replacement)
        self._undo.append((owner, attribute, before, replacement))
        self._record(Change(target, reason, undone=True))
        return original

    def note(self, target: str, reason: str) -> None:
        """Record an effect on an object of the script; it lives and dies with that object."""
        self._record(Change(target, reason, undone=False))

    def revert(self) -> None:
        """Put every wrapped attribute back, newest first.

        Raises:
            PluginError: somebody replaced an attribute after us; it is left as it is.
        """
        foreign = []
        while self._undo:
            owner, attribute, before, replacement = self._undo.pop()
            if vars(owner).get(attribute) is not replacement:
                foreign.append(f"{_name(owner)}.{attribute}")
            elif before is _ABSENT:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, before)
        if foreign:
            raise PluginError(
                f"{', '.join(foreign)} was replaced by other code after the plugin wrapped it; "
                "left as found"
            )

    def lines(self) -> list[str]:
        """The ledger as text, one line a change."""
        return [str(change) for change in self.changes]

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: Any) -> None:
        self.revert()

    def _record(self, change: Change) -> None:
        self.changes.append(change)
        if self.announce is not None:
            self.announce(str(change))


def _name(owner: Any) -> str:
    module = getattr(owner, "__module__", "")
    name = getattr(owner, "__qualname__", getattr(owner, "__name__", type(owner).__name__))
    return f"{module}.{name}" if module else name
