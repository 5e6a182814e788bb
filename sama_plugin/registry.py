"""Named choices (aggregators, region encoders, segmenters, formats, hosts, benchmarks) behind one
class.

Built-ins are a literal table of "module:attribute" strings and are imported when first asked for.
Other packages add choices by an entry point in the group `sama_plugin.<registry name>`, or by
`registry.register(name, object)`.
"""

from __future__ import annotations

import difflib
import importlib
from importlib import metadata
from typing import Any, Mapping

from sama_plugin.errors import ConfigError


class Registry:
    """A table from name to object, filled lazily. A duplicate raises and names both sides."""

    def __init__(self, name: str, builtins: Mapping[str, str]):
        self.name = name
        self._targets: dict[str, Any] = dict(builtins)
        self._entry_points_read = False

    def register(self, key: str, target: Any) -> None:
        """Add `target` (an object, or a "module:attribute" string) under `key`."""
        present = self._targets.get(key)
        if present is not None and present != target:
            raise ConfigError(
                f"{self.name} {key!r} is registered twice: {_describe(present)} and "
                f"{_describe(target)}; rename one of them"
            )
        self._targets[key] = target

    def get(self, key: str) -> Any:
        """The object registered under `key`; unknown names raise ConfigError with the nearest known
        one.
        """
        if key not in self._targets:
            self._read_entry_points()
        if key not in self._targets:
            raise ConfigError(
                f"unknown {self._one()} {key!r}{nearest(key, self._targets)}; "
                f"known: {', '.join(sorted(self._targets))}"
            )
        target = self._targets[key]
        if isinstance(target, str):
            target = self._targets[key] = _import(self.name, key, target)
        return target

    def names(self) -> list[str]:
        """All known names, those of installed extensions included."""
        self._read_entry_points()
        return sorted(self._targets)

    def _one(self) -> str:
        """What one of them is called: the name is that of the table and of its entry points."""
        return self.name.removesuffix("s").replace("_", " ")

    def _read_entry_points(self) -> None:
        if self._entry_points_read:
            return
        self._entry_points_read = True
        group = f"sama_plugin.{self.name}"
        found = metadata.entry_points()
        points = found.select(group=group) if hasattr(found, "select") else found.get(group, ())
        for point in points:
            self.register(point.name, point.value)


def nearest(word: str, known) -> str:
    """ " (did you mean 'x'?)" for the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _describe(target: Any) -> str:
    return target if isinstance(target, str) else f"{target.__module__}:{target.__qualname__}"


def _import(registry: str, key: str, target: str) -> Any:
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
        return getattr(module, attribute) if attribute else module
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{registry} {key!r} points to {target!r}, which cannot be imported: {error}"
        ) from error
