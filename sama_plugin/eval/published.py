"""Published numbers as data: what others report, under which protocol, and where it is written.

A number that is not known is absent ("unknown" in the table), never guessed; numbers that are known
to be invented are listed in `refused` so that nobody adds them again. The file is
`configs/eval/published.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from sama_plugin.errors import ConfigError
from sama_plugin.settings import load_yaml


@dataclass(frozen=True)
class Source:
    """Where numbers were read."""

    title: str
    where: str


@dataclass(frozen=True)
class Entry:
    """Numbers of one model.

    Attributes:
        values: by metric as the source names it; null where the source or we do not know.
        protocol: what the numbers depend on: split, frames, judge; "" where it is not stated.
    """

    model: str
    source: str
    values: dict = field(default_factory=dict)
    protocol: str = ""


@dataclass(frozen=True)
class Bench:
    """One benchmark: how its numbers come about, and who published some."""

    name: str
    protocol: str
    unit: str
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Refused:
    """Numbers that must not enter."""

    where: str
    why: str


@dataclass(frozen=True)
class Published:
    """The whole file."""

    sources: dict = field(default_factory=dict)
    benchmarks: dict = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()

    def __post_init__(self) -> None:
        from sama_plugin.settings import from_dict

        sources = {k: from_dict(Source, v, f"sources.{k}") for k, v in self.sources.items()}
        benches = {k: from_dict(Bench, v, f"benchmarks.{k}") for k, v in self.benchmarks.items()}
        for key, bench in benches.items():
            for entry in bench.entries:
                _check(key, entry, sources)
        object.__setattr__(self, "sources", sources)
        object.__setattr__(self, "benchmarks", benches)


def default_file() -> Optional[Path]:
    """The file of this checkout; None in an installation without it."""
    path = Path(__file__).resolve().parents[2] / "configs" / "eval" / "published.yaml"
    return path if path.is_file() else None


def load_published(path: Union[str, Path]) -> Published:
    """Read and check; ConfigError names what is wrong."""
    return load_yaml(Published, path)[0]


def table(published: Published, key: str) -> str:
    """What others published on a benchmark, as text; unknown cells say so."""
    bench: Optional[Bench] = published.benchmarks.get(key)
    if bench is None:
        return f"published numbers: none known for {key}"
    lines = [f"published ({bench.name}; {bench.unit}; {bench.protocol})"]
    for entry in bench.entries:
        cells = ", ".join(f"{name} {_cell(value)}" for name, value in entry.values.items())
        how = f" [{entry.protocol}]" if entry.protocol else ""
        lines.append(f"  {entry.model:28} {cells}{how}  ({published.sources[entry.source].title})")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return "unknown" if value is None else f"{value:g}"


def _check(bench: str, entry: Entry, sources: dict) -> None:
    if entry.source not in sources:
        raise ConfigError(
            f"{bench}: {entry.model} names the unknown source {entry.source!r}; known: "
            f"{', '.join(sorted(sources))}"
        )
    for name, value in entry.values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ConfigError(f"{bench}: {entry.model}: {name} is {value!r}, not a number or null")
