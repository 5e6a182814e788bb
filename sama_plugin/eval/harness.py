"""Run a benchmark: read, answer video by video, score, summarise. Safe against `kill -9`.

    out/predictions.jsonl   one line a case, on disk before the next case is asked
    out/judge.jsonl         raw answers of the judge
    out/scores.jsonl        every part of every metric, what `compare` reads
    out/summary.json        values, intervals, counts, settings, versions, hashes

A run that is started again with the same settings answers only what is missing; the summary is
computed from the files alone, so it is the same however often the run was interrupted. Bad records
of the benchmark file are listed, failed cases are scored as empty answers and counted.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence, Union

from sama_plugin.atomic import atomic_path
from sama_plugin.data.report import Quarantine
from sama_plugin.errors import DataError
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import SUITES, Benchmark, Means
from sama_plugin.eval.cases import Case, by_video, make_cases
from sama_plugin.eval.journal import Journal
from sama_plugin.eval.scoreboard import Scoreboard

Answerer = Callable[[Sequence[Case]], Iterator[Prediction]]
"""Answers to the cases of one video, in order."""

PREDICTIONS, SCORES, SUMMARY = "predictions.jsonl", "scores.jsonl", "summary.json"
LISTED = 50
"""At most so many bad records, failures and doubled ids are listed by name; all are counted."""
PACKAGES = ("torch", "transformers", "numpy", "pycocoevalcap", "pycocotools")


@dataclass(frozen=True)
class Material:
    """What was read: cases in file order, and what is wrong with the file."""

    cases: list[Case]
    doubled: list[str]
    bad: list[str]

    def summary(self) -> dict[str, Any]:
        """Counts, with names."""
        return {
            "cases": len(self.cases),
            "videos": len(by_video(self.cases)),
            "records_not_read": _listing(self.bad),
            "ids_that_occur_twice": _listing(self.doubled),
        }


def read_material(
    name: str,
    data: Union[str, Path],
    root: Union[str, Path],
    *,
    mode: str = "single",
    limit: int = 0,
) -> Material:
    """Cases of a benchmark file; records that cannot be used are listed, not replaced.

    Raises:
        DataError: no record can be used.
    """
    report = Quarantine()
    samples = list(SUITES.get(name).read(data, root, report, mode))
    cases, doubled = make_cases(samples[:limit] if limit else samples)
    bad = [str(error) for error in report.dropped]
    if not cases:
        first = f"; the first: {bad[0]}" if bad else ""
        raise DataError(f"no usable record for {name}{first}", file=str(data), reason="no_cases")
    return Material(cases, doubled, bad)


def predict(
    material: Material,
    answer: Answerer,
    out: Union[str, Path],
    settings: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Prediction]:
    """Predictions of all cases by key; asks only for those that `out` does not hold.

    Raises:
        ConfigError: `out` holds predictions of another run.
    """
    known = {case.key for case in material.cases}
    with Journal(Path(out) / PREDICTIONS, settings) as journal:
        strangers = sorted(journal.done.keys() - known)
        if strangers:
            raise DataError(
                f"{len(strangers)} predictions are for cases that the benchmark does not have",
                file=str(journal.path),
                record=strangers[0],
                reason="unknown_case",
            )
        progress(len(journal.done), len(known))
        for cases in by_video(material.cases).values():
            open_cases = [case for case in cases if case.key not in journal.done]
            for prediction in answer(open_cases) if open_cases else ():
                journal.append(prediction.to_json())
                progress(len(journal.done), len(known))
        missing = known - journal.done.keys()
        if missing:
            raise DataError("a case was not answered", record=min(missing))
        return {key: Prediction.from_json(record) for key, record in journal.done.items()}


def score(
    name: str,
    material: Material,
    predictions: Mapping[str, Prediction],
    means: Means,
    out: Union[str, Path],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Score, write scores.jsonl and summary.json, return the summary."""
    benchmark: Benchmark = SUITES.get(name)
    failed = {key: one.error for key, one in predictions.items() if one.error}
    board = benchmark.score(material.cases, predictions, means)
    board.counts["cases failed, scored as empty answers"] = len(failed)
    board.counts["answers cut off"] = sum(not one.finished for one in predictions.values())
    _write_lines(Path(out) / SCORES, board)
    summary = {
        "benchmark": name,
        "published": benchmark.PUBLISHED,
        "metrics": [_finite(row) for row in board.summary()],
        "not_computed": board.missing,
        "counts": dict(sorted(board.counts.items())),
        "material": material.summary(),
        "failures": _listing([f"{key}: {error}" for key, error in sorted(failed.items())]),
        "notes": board.notes,
        "judge": {"name": means.judge.name, **means.judge.usage.to_json()},
        "settings": dict(settings),
        "versions": versions(),
    }
    with atomic_path(Path(out) / SUMMARY) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def file_hash(path: Union[str, Path]) -> str:
    """SHA-256 of a file, or of the files below a folder with their names."""
    digest, path = hashlib.sha256(), Path(path)
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(str(file.relative_to(path)).encode())
        with open(file, "rb") as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of what makes the numbers."""
    found = {"python": platform.python_version()}
    for package in ("sama_plugin", *PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _write_lines(path: Path, board: Scoreboard) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        for line in board.lines():
            stream.write(json.dumps(line) + "\n")


def _listing(names: Sequence[str]) -> dict[str, Any]:
    return {"count": len(names), "first": list(names[:LISTED])}


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """NaN is no JSON; a value that does not exist is null."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }
