"""The cases of a benchmark: one sample each, under a key of its own, grouped by video.

Grouping lets a video be decoded and encoded once for all its questions. Ids that occur twice keep
every case (the second becomes "id#2") and are reported by name.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Collection, Iterable

from sama_plugin.dialog.sample import Sample


@dataclass(frozen=True)
class Case:
    """A sample under its key."""

    key: str
    sample: Sample

    @property
    def video(self) -> str:
        """What the cases are grouped by: the path of the medium."""
        return str(self.sample.media.source)

    @property
    def kind(self) -> str:
        """First tag (the question type), or ""."""
        return self.sample.tags[0] if self.sample.tags else ""


def make_cases(samples: Iterable[Sample]) -> tuple[list[Case], list[str]]:
    """(cases in file order, ids that occur more than once)."""
    samples = list(samples)
    times = Counter(sample.id for sample in samples)
    taken, met = set(times), set()
    cases = []
    for sample in samples:
        key = sample.id if sample.id not in met else _free(sample.id, taken)
        met.add(sample.id)
        taken.add(key)
        cases.append(Case(key, sample))
    return cases, sorted(name for name, count in times.items() if count > 1)


def _free(name: str, taken: Collection[str]) -> str:
    """The first of "name#2", "name#3", ... that nobody has."""
    return next(key for n in itertools.count(2) if (key := f"{name}#{n}") not in taken)


def by_video(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """Cases of each video, videos in order of first appearance."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.video, []).append(case)
    return groups
