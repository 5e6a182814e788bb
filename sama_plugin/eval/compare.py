"""Is run B better than run A? Paired bootstrap over the videos that both scored.

Only cases that both runs have are compared, and how many each has alone is said. Runs of different
benchmarks or of different data files are refused; another judge or setting is told. Used by
`sama eval compare`.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Union

from sama_plugin.errors import ConfigError
from sama_plugin.eval.harness import SCORES, SUMMARY
from sama_plugin.eval.intervals import Difference, difference
from sama_plugin.eval.journal import differing
from sama_plugin.eval.scoreboard import Scoreboard

SAME = {
    "benchmark": "benchmark",
    "data file": "data_sha256",
    "annotation beside it": "beside_sha256",
    "annotation read when scoring": "scored_with_sha256",
}
"""What both runs must share, and its name among the settings or in the summary."""


@dataclass(frozen=True)
class Row:
    """One metric of both runs; `only_a` and `only_b` count the parts the other run lacks."""

    metric: str
    reading: str
    difference: Difference
    only_a: int
    only_b: int


def compare(a: Union[str, Path], b: Union[str, Path]) -> list[Row]:
    """Rows of all metrics that both result folders hold.

    Raises:
        ConfigError: a folder holds no results, or the runs are not about the same cases.
    """
    one, other = _summary(a), _summary(b)
    for title, name in SAME.items():
        pairs = differing({name: one.get(name)}, {name: other.get(name)})
        if pairs:
            said = "; ".join(f"{where}: {there} and {here}" for where, there, here in pairs)
            raise ConfigError(
                f"{a} and {b} differ in {title} ({said}); only runs on the same cases can be "
                "compared"
            )
    boards = [Scoreboard.from_lines(_lines(folder)) for folder in (a, b)]
    rows = []
    for key in sorted(boards[0].parts.keys() & boards[1].parts.keys()):
        parts = boards[0].parts[key], boards[1].parts[key]
        found = difference(*parts)
        if found is not None:
            alone = len(parts[0].keys() - parts[1].keys()), len(parts[1].keys() - parts[0].keys())
            rows.append(Row(*key, found, *alone))
    if not rows:
        raise ConfigError(f"{a} and {b} share no scored metric")
    return rows


def other_means(a: Union[str, Path], b: Union[str, Path]) -> list[str]:
    """What the runs were made or scored with and do not share, as "judge: X and Y"."""
    return [f"{name}: {one} and {other}" for name, one, other in differing(_means(a), _means(b))]


def table(rows: list[Row]) -> str:
    """The rows as text."""
    lines = [
        f"{'metric':28}{'reading':>10}{'A':>9}{'B':>9}{'B - A':>9}{'95 %':>20}{'p':>7}{'n':>7}"
    ]
    for row in rows:
        d = row.difference
        interval = f"{d.low:+.3f} .. {d.high:+.3f}"
        lines.append(
            f"{row.metric:28}{row.reading:>10}{d.a:9.3f}{d.b:9.3f}{d.difference:+9.3f}"
            f"{interval:>20}{d.p:7.3f}{d.n:7}"
        )
        if row.only_a or row.only_b:
            lines.append(f"    only in A: {row.only_a}, only in B: {row.only_b} (left out)")
    return "\n".join(lines)


def _summary(folder: Union[str, Path]) -> dict[str, Any]:
    with _results(folder, SUMMARY):
        found = json.loads((Path(folder) / SUMMARY).read_text(encoding="utf-8"))
        return {**found, **found["settings"]}


def _means(folder: Union[str, Path]) -> dict[str, Any]:
    found = _summary(folder)
    judge = (found.get("judge") or {}).get("name")
    return {**found["settings"], "judge": judge, "notes": "; ".join(found.get("notes") or [])}


def _lines(folder: Union[str, Path]) -> Iterator[dict[str, Any]]:
    with _results(folder, SCORES), open(Path(folder) / SCORES, encoding="utf-8") as stream:
        yield from map(json.loads, stream)


@contextmanager
def _results(folder: Union[str, Path], file: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder} holds no results of `sama eval` ({file}: {type(error).__name__}: {error}); "
            "run the benchmark with --out first"
        ) from error
