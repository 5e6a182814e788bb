"""Dataclasses are the only schema; YAML gives values.

`load_yaml(SamaConfig, "configs/mini.yaml", ["aggregator.kind=none"])` returns the object and, for
every leaf, where its value came from ("default", the file, or the command line). Unknown keys are
errors that say where they stand and name the nearest known key.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import typing
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, TypeVar, Union

from sama_plugin.atomic import atomic_path
from sama_plugin.errors import ConfigError
from sama_plugin.registry import nearest

T = TypeVar("T")
Origin = Callable[[str], str]
"""From the dotted path of a value to "FILE: ", for messages; empty if nobody knows."""

SHIPPED = Path(__file__).parents[1] / "configs"
"""The settings files of the checkout; an installed wheel has none."""


def load_yaml(
    cls: type[T], path: Union[str, Path, None], overrides: Iterable[str] = ()
) -> tuple[T, dict[str, str]]:
    """Read `path` into `cls`, apply "a.b=value" overrides; returns (object, origin of every leaf).

    A section may be the name of another YAML file, relative to this one: `sama: ../mini.yaml`.
    Without a file there are the defaults and the overrides.
    """
    values = {} if path is None else read_yaml(path)
    path = "command line" if path is None else path
    origins = {key: str(path) for key in leaves(values)}
    for section, file in _references(cls, values, path):
        values[section] = read_yaml(file)
        del origins[section]
        origins.update({key: str(file) for key in leaves(values[section], f"{section}.")})
    for override in overrides:
        key, value = parse_override(override)
        _assign(values, key, value, override)
        origins = {
            known: source for known, source in origins.items() if not known.startswith(f"{key}.")
        }
        origins.update({leaf: "command line" for leaf in leaves(value, f"{key}.")})
    loaded = _build(cls, values, lambda key: f"{_origin(key, origins, str(path))}: ", "")
    for leaf in leaves(to_dict(loaded)):
        origins.setdefault(leaf, "default")
    return loaded, origins


def read_yaml(path: Union[str, Path]) -> dict[str, Any]:
    """The mapping in a YAML file; ConfigError if it is missing, malformed or not a mapping."""
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, found {type(values).__name__}")
    return values


def from_dict(cls: type[T], values: Mapping[str, Any], origin: str = "") -> T:
    """Build dataclass `cls` from nested mappings; types are checked, unknown keys raise
    ConfigError.
    """
    return _build(cls, values, lambda key: f"{origin}: " if origin else "", "")


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted path of every value to the value; sections in lists are counted, as `data.0.path`."""
    if isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping) or not value:
        return {prefix[:-1]: value}
    return {
        path: leaf
        for key, item in value.items()
        for path, leaf in leaves(item, f"{prefix}{key}.").items()
    }


def to_dict(value: Any) -> Any:
    """Dataclasses to plain dicts and lists, ready for YAML or JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_dict(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: to_dict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_dict(item) for item in value]
    return value


def dump_yaml(value: Any, path: Union[str, Path]) -> None:
    """Write a dataclass as YAML, atomically."""
    import yaml

    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(to_dict(value), sort_keys=False), encoding="utf-8")


def parse_override(text: str) -> tuple[str, Any]:
    """ "a.b=[1, 2]" to ("a.b", [1, 2]); the value is read as YAML."""
    import yaml

    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {text!r} is not of the form key=value")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {text!r}: the value is not valid YAML: {error}") from error


def _references(
    cls: type, values: Mapping[str, Any], path: Union[str, Path]
) -> list[tuple[str, Path]]:
    """(section, file) of every top-level section that is given as a YAML file."""
    hints = typing.get_type_hints(cls)
    found = [
        (key, Path(path).parent / value)
        for key, value in values.items()
        if dataclasses.is_dataclass(hints.get(key)) and str(value).endswith((".yaml", ".yml"))
    ]
    for key, file in found:
        if not file.is_file():
            shipped = SHIPPED / file.name
            instead = f"; there is {shipped}: name it, or copy it there" * shipped.is_file()
            raise ConfigError(
                f"{path}: {key} names {values[key]!r}, which starts from the folder of that file, "
                f"and there is no file {file.resolve()}{instead}"
            )
    return found


def _assign(values: dict[str, Any], key: str, value: Any, override: str) -> None:
    *parents, leaf = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {override!r}: {parent!r} is not a section")
    values[leaf] = value


def _origin(key: str, origins: Mapping[str, str], otherwise: str) -> str:
    """Where the value at `key` came from: itself, a part of it, or the section around it."""
    key = re.sub(r"\[(\d+)\]", r".\1", key)
    inside = (source for leaf, source in origins.items() if leaf.startswith(f"{key}."))
    found = origins.get(key) or next(inside, None)
    while found is None and "." in key:
        key = key.rpartition(".")[0]
        found = origins.get(key)
    return found or otherwise


def _build(kind: Any, value: Any, origin: Origin, path: str) -> Any:
    name = path or "top level"
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, origin, path)
    base, arguments = typing.get_origin(kind), typing.get_args(kind)
    if base is Union:
        if value is None and type(None) in arguments:
            return None
        return _build(next(a for a in arguments if a is not type(None)), value, origin, path)
    if base is typing.Literal:
        if value not in arguments:
            allowed = ", ".join(map(repr, arguments))
            raise ConfigError(f"{origin(path)}{name} is {value!r}; allowed: {allowed}")
        return value
    if base in (tuple, list):
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{origin(path)}{name} should be a list, found {value!r}")
        return base(
            _build(arguments[0], item, origin, f"{path}[{i}]") for i, item in enumerate(value)
        )
    if base is dict or kind in (dict, Any):
        return value
    return _scalar(kind, value, origin(path), name)


def _build_dataclass(kind: Any, value: Any, origin: Origin, path: str) -> Any:
    if dataclasses.is_dataclass(value):
        value = to_dict(value)
    if not isinstance(value, Mapping):
        section = path or "top level"
        raise ConfigError(f"{origin(path)}{section} should be a section, found {value!r}")
    hints = typing.get_type_hints(kind, vars(sys.modules[kind.__module__]))
    known = {field.name for field in dataclasses.fields(kind) if field.init}
    for key in value:
        if key not in known:
            name = f"{path}.{key}" if path else str(key)
            raise ConfigError(f"{origin(name)}unknown key {name}{nearest(str(key), known)}")
    built = {
        key: _build(hints[key], item, origin, f"{path}.{key}" if path else key)
        for key, item in value.items()
    }
    try:
        return kind(**built)
    except TypeError as error:
        raise ConfigError(f"{origin(path)}{path or kind.__name__}: {error}") from error


def _scalar(kind: Any, value: Any, where: str, name: str) -> Any:
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind in (bool, str) and isinstance(value, kind):
        return value
    raise ConfigError(f"{where}{name} should be {getattr(kind, '__name__', kind)}, found {value!r}")
