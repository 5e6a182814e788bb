"""Run a benchmark: read, answer video by video, score, summarise. Safe against `kill -9`.

    out/predictions.jsonl   one line a case, on disk before the next batch is asked; several
                            processes write predictions-0.jsonl, predictions-1.jsonl, ...
    out/judge.jsonl         raw answers of the judge
    out/scores.jsonl        every part of every metric, what `compare` reads
    out/summary.json        values, intervals, counts, settings, versions, hashes

A run that is started again with the same settings answers only what is missing; the summary is
computed from the files alone, so it is the same however often the run was interrupted and however
many processes shared it. Bad records of the benchmark file are listed with the questions they hold,
failed cases are scored as empty answers; both are counted by question and named by cause
(`losses`).
"""

from __future__ import annotations

import json
import math
import platform
from collections import Counter
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, Union

from sama_plugin.atomic import atomic_path
from sama_plugin.data.formats.files import opened_files
from sama_plugin.data.report import Quarantine
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import DataError
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import SUITES, Benchmark, Means, Selection
from sama_plugin.eval.cases import Case, by_video, make_cases
from sama_plugin.eval.hashes import hashes_by_place, path_hash
from sama_plugin.eval.journal import Journal, Lines, read_journal
from sama_plugin.eval.losses import LISTED, cases_failed, listing, records_not_read
from sama_plugin.eval.ranks import Rank
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.eval.submission import SUBMISSION

Answerer = Callable[[Sequence[Case]], Iterator[Prediction]]
"""Answers to the cases of one video, in order."""

PREDICTIONS, SCORES, SUMMARY = "predictions.jsonl", "scores.jsonl", "summary.json"
PACKAGES = ("torch", "transformers", "numpy", "pycocoevalcap", "pycocotools")


@dataclass(frozen=True)
class Material:
    """What was read: cases in file order, and what is wrong with the file.

    Attributes:
        doubled: ids that occur more than once. bad: what was dropped, with the questions it held.
        odd: what was found odd in records that were read all the same.
        home: folder of the benchmark file. files: the annotation files that were read.
        beside: SHA-256 of those that are not the benchmark's own (mask dictionaries and pictures,
            tables of instances), see `hashes_by_place`.
    """

    cases: list[Case]
    doubled: list[str]
    bad: list[DataError]
    odd: list[DataError] = field(default_factory=list)
    home: Path = Path()
    files: frozenset[Path] = frozenset()
    beside: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Counts, with names."""
        return {
            "cases": len(self.cases),
            "videos": len(by_video(self.cases)),
            "questions_not_read": listing(records_not_read(self.bad)),
            "odd_records": listing(records_not_read(self.odd)),
            "ids_that_occur_twice": _listing(self.doubled),
        }


class Predictions(Mapping[str, Prediction]):
    """Answers by case, read from disk when they are looked at, in the order of the cases."""

    def __init__(self, cases: Sequence[Case], files: Sequence[Lines]):
        found = {name: lines for lines in files for name in lines}
        self._lines = {case.key: found[case.key] for case in cases}

    def __getitem__(self, key: str) -> Prediction:
        lines = self._lines[key]
        try:
            return Prediction.from_json(lines[key])
        except DataError as error:
            raise error.at(file=str(lines.path)) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


def read_material(
    name: str,
    data: Union[str, Path, Sequence[Union[str, Path]]],
    root: Union[str, Path],
    *,
    selection: Selection = Selection(),  # noqa: B008  (frozen)
    limit: int = 0,
) -> Material:
    """Cases of a benchmark file, or of its shards as one benchmark; records that cannot be used are
    listed, not replaced.

    Raises:
        DataError: no record can be used.
    """
    report, read = Quarantine(), SUITES.get(name).read
    files = [Path(data)] if isinstance(data, (str, Path)) else list(map(Path, data))
    with opened_files() as opened:
        samples = [sample for file in files for sample in read(file, root, report, selection)]
    samples = [sample for sample in samples if _has_reference(sample, name, report)]
    cases, doubled = make_cases(samples[:limit] if limit else samples)
    if not cases:
        first = f"; the first: {report.dropped[0]}" if report.dropped else ""
        raise DataError(
            f"no usable record for {name}{first}",
            file=", ".join(map(str, files)),
            reason="no_cases",
        )
    own, home = {file.absolute() for file in files}, files[0].absolute().parent
    beside = hashes_by_place(opened - own, home)
    read_files = frozenset(opened | own)
    return Material(cases, doubled, report.dropped, report.noted, home, read_files, beside)


def _has_reference(sample: Sample, name: str, report: Quarantine) -> bool:
    """Whether its answer can be scored, here or on the benchmark's server; else it is listed."""
    reference = sample.turns[-1].assistant
    if reference is None and hasattr(SUITES.get(name), "submit"):
        return True
    if reference is not None and reference.strip():
        return True
    words = "nothing to score an answer against: no reference in the file, or no masks beside it"
    report.drop(DataError(words, file=sample.source, record=sample.id, reason="no_reference"))
    return False


def answer_missing(
    material: Material,
    answer: Answerer,
    out: Union[str, Path],
    settings: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
    rank: Rank = Rank(),  # noqa: B008  (frozen)
) -> None:
    """Ask for the cases of this process's videos that no file in `out` holds.

    Raises:
        ConfigError: `out` holds predictions of another run.
        DataError: ... or predictions for cases that the benchmark does not have.
    """
    groups = rank.share(list(by_video(material.cases).values()))
    mine = {case.key for cases in groups for case in cases}
    name = f"predictions-{rank.number}.jsonl" if rank.world > 1 else PREDICTIONS
    elsewhere = [lines for lines in _journals(out, settings) if lines.path.name != name]
    known = {key for lines in elsewhere for key in lines}
    with Journal(Path(out) / name, settings) as journal:
        _check_known([*elsewhere, journal.done], material)

        def count() -> int:
            return len(mine & (known | journal.done.keys()))

        progress(count(), len(mine))
        for cases in groups:
            open_cases = [c for c in cases if c.key not in journal.done and c.key not in known]
            for prediction in answer(open_cases) if open_cases else ():
                journal.append(prediction.to_json())
                progress(count(), len(mine))


def read_predictions(
    material: Material, out: Union[str, Path], settings: Mapping[str, Any]
) -> Predictions:
    """What all processes answered.

    Raises:
        DataError: a case has no answer, or two.
    """
    files = _journals(out, settings)
    _check_known(files, material)
    times = Counter(key for lines in files for key in lines)
    twice = [key for key, count in times.items() if count > 1]
    if twice:
        raise DataError("a case was answered twice", file=str(out), record=min(twice))
    missing = {case.key for case in material.cases} - times.keys()
    if missing:
        raise DataError("a case was not answered", file=str(out), record=min(missing))
    return Predictions(material.cases, files)


def predict(
    material: Material,
    answer: Answerer,
    out: Union[str, Path],
    settings: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Predictions:
    """`answer_missing` by one process, and what it answered."""
    answer_missing(material, answer, out, settings, progress)
    return read_predictions(material, out, settings)


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
    failed, cut = {}, 0
    for key, one in predictions.items():
        cut += not one.finished
        if one.error:
            failed[key] = one.error
    with opened_files() as opened:
        board = benchmark.score(material.cases, predictions, means)
    board.counts["cases failed, scored as empty answers"] = len(failed)
    board.counts["answers cut off"] = cut
    _write_lines(Path(out) / SCORES, board)
    sent = _submit(benchmark, material.cases, predictions, Path(out))
    on_server = getattr(benchmark, "PUBLISHED_ON_SERVER", benchmark.PUBLISHED)
    summary = {
        "benchmark": name,
        "submission": sent,
        "published": on_server if sent else benchmark.PUBLISHED,
        "headline": list(benchmark.HEADLINE),
        "metrics": finite(board.summary()),
        "not_computed": board.missing,
        "counts": dict(sorted(board.counts.items())),
        "material": material.summary(),
        "failures": listing(cases_failed(material.cases, failed)),
        "faults": _listing(board.faults),
        "notes": board.notes,
        "judge": {"name": means.judge.name, **means.judge.usage.to_json()},
        "settings": dict(settings),
        "scored_with_sha256": hashes_by_place(opened - material.files, material.home),
        "versions": versions(),
    }
    with atomic_path(Path(out) / SUMMARY) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def finite(value: Any) -> Any:
    """The same with None for NaN and infinities, which are no JSON."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Versions of what makes the numbers."""
    found = {"python": platform.python_version()}
    for package in ("sama_plugin", *PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _submit(
    benchmark: Benchmark,
    cases: Sequence[Case],
    predictions: Mapping[str, Prediction],
    out: Path,
) -> Optional[dict[str, Any]]:
    """The zip for the benchmark's server, of cases whose answers are not public."""
    open_cases = [case for case in cases if case.sample.turns[-1].assistant is None]
    if not open_cases or not hasattr(benchmark, "submit"):
        return None
    pictures = benchmark.submit(open_cases, predictions, out / SUBMISSION)
    return {"file": SUBMISSION, "pictures": pictures, "sha256": path_hash(out / SUBMISSION)}


def _journals(out: Union[str, Path], settings: Mapping[str, Any]) -> list[Lines]:
    """Every predictions file of the folder, by name."""
    files = sorted(Path(out).glob("predictions*.jsonl"))
    return [read_journal(file, settings)[0] for file in files]


def _check_known(files: Sequence[Lines], material: Material) -> None:
    known = {case.key for case in material.cases}
    for lines in files:
        strangers = sorted(lines.keys() - known)
        if strangers:
            raise DataError(
                f"{len(strangers)} predictions are for cases that the benchmark does not have",
                file=str(lines.path),
                record=strangers[0],
                reason="unknown_case",
            )


def _write_lines(path: Path, board: Scoreboard) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        for line in board.lines():
            stream.write(json.dumps(line) + "\n")


def _listing(names: Sequence[str]) -> dict[str, Any]:
    return {"count": len(names), "first": list(names[:LISTED])}
