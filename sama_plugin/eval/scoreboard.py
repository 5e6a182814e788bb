"""What a benchmark's scorer fills: every metric's parts by case, and everything that went missing.

A metric has a name and a reading: "released" is what the public code computes, "corrected" what it
should have computed, "offline" a number that the public protocol does not have. The summary, the
intervals and `compare` read nothing else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Iterator, Mapping

from sama_plugin.errors import DataError
from sama_plugin.eval.intervals import Estimate, Part, estimate

READINGS = ("released", "corrected", "offline")


@dataclass
class Scoreboard:
    """Parts of metrics.

    Attributes:
        counts: how many cases failed, were unparsed, were not judged, ...
        missing: metrics that could not be computed, by name, with the reason.
        faults: cases that could not be scored as they are, by name with the reason; they count as
            empty answers.
        wholes: (value, n) of metrics that are no mean over cases (AP50).
        notes: what a reader of the numbers must know.
    """

    parts: dict[tuple[str, str], dict[str, Part]] = field(default_factory=dict)
    kinds: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)
    missing: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    wholes: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        metric: str,
        reading: str,
        key: str,
        video: str,
        value: float,
        weight: float = 1.0,
        kind: str = "",
    ) -> None:
        """One part of a metric; `key` is the case, or the video where the metric is one of
        videos."""
        if reading not in READINGS:
            raise DataError("unknown reading", found=reading, expected=", ".join(READINGS))
        name = metric, reading
        parts = self.parts.setdefault(name, {})
        if key in parts:
            raise DataError(f"{metric} ({reading}) has two values", record=key)
        parts[key] = Part(video, float(value), float(weight))
        self.kinds.setdefault(name, {})[key] = kind

    def whole(self, metric: str, reading: str, value: float, n: int) -> None:
        """A metric of all cases at once, without an interval."""
        self.wholes[metric, reading] = float(value), n

    def fault(self, key: str, error: DataError) -> None:
        """A case whose files do not fit together; the caller scores it as an empty answer."""
        self.counts["cases with faulty masks, scored as empty answers"] += 1
        self.faults.append(f"{key}: {error}")

    def lines(self) -> Iterator[dict[str, Any]]:
        """Every part as a JSON record, in a fixed order."""
        for metric, reading in sorted(self.parts):
            for key, part in self.parts[metric, reading].items():
                kind = self.kinds[metric, reading][key]
                values = {"key": key, **vars(part), "kind": kind}
                yield {"metric": metric, "reading": reading, **values}

    @classmethod
    def from_lines(cls, lines: Iterator[Mapping[str, Any]]) -> Scoreboard:
        """Parts from what `lines` gave."""
        board = cls()
        for line in lines:
            board.add(**line)
        return board

    def summary(self) -> list[dict[str, Any]]:
        """One row a metric and reading: value, interval, n, and the values by kind."""
        rows = []
        for (metric, reading), parts in sorted(self.parts.items()):
            found = estimate(list(parts.values()))
            kinds = self._by_kind(metric, reading)
            rows.append({"metric": metric, "reading": reading, **vars(found), "kinds": kinds})
        for (metric, reading), (value, n) in sorted(self.wholes.items()):
            whole = Estimate(value, float("nan"), float("nan"), n, 0)
            rows.append({"metric": metric, "reading": reading, **vars(whole), "kinds": {}})
        return sorted(rows, key=lambda row: (row["metric"], row["reading"]))

    def _by_kind(self, metric: str, reading: str) -> dict[str, dict[str, float]]:
        groups: dict[str, list[Part]] = {}
        for key, kind in self.kinds[metric, reading].items():
            if kind:
                groups.setdefault(kind, []).append(self.parts[metric, reading][key])
        result = {}
        for kind, parts in sorted(groups.items()):
            weight = sum(part.weight for part in parts)
            total = sum(part.value * part.weight for part in parts)
            value = total / weight if weight else float("nan")
            result[kind] = {"value": value, "n": len(parts)}
        return result
