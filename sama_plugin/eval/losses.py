"""What a run lost: every question is counted, and a cause is said once however many it cost.

A video that cannot be read takes all its questions with it. They are lost before the run, where
the benchmark file is read (they are then no cases), or when their turn comes (scored as empty
answers). Both are listed by cause, the costliest first. Used by `harness` for summary and page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Hashable, Iterable, Mapping, Sequence

from sama_plugin.errors import DataError
from sama_plugin.eval.cases import Case

LISTED = 50
"""At most so many causes are listed by name; all are counted."""
NAMED = 5
"""At most so many questions or records of a cause are listed by name."""


@dataclass(frozen=True)
class Loss:
    """What one cause cost.

    Attributes:
        cause: what happened, to which video or record.
        names: records or cases that it happened to, as far as `cause` does not say.
        questions: lost with them.
    """

    cause: str
    names: tuple[str, ...]
    questions: int

    def __str__(self) -> str:
        if self.questions == 1 and not self.names:
            return self.cause
        more = [f"and {len(self.names) - NAMED} more"] if len(self.names) > NAMED else []
        which = ", ".join([*self.names[:NAMED], *more])
        number = f"{self.questions} question{'s' if self.questions > 1 else ''}"
        return f"{self.cause} ({number}{f': {which}' if which else ''})"


def records_not_read(errors: Sequence[DataError]) -> list[Loss]:
    """What reading the benchmark file lost; the same error in several records is one cause."""
    groups: dict[Hashable, list[DataError]] = {}
    for error in errors:
        key = (error.file, error.field, error.message, str(error.found), str(error.expected))
        groups.setdefault(key, []).append(error)
    return _costliest(_of_records(group) for group in groups.values())


def cases_failed(cases: Iterable[Case], failed: Mapping[str, str]) -> list[Loss]:
    """What failed when it was asked; the same error of one video is one cause.

    Args:
        failed: case to error.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for case in cases:
        if case.key in failed:
            groups.setdefault((case.video, failed[case.key]), []).append(case.key)
    return _costliest(_of_cases(*place, keys) for place, keys in groups.items())


def listing(losses: Sequence[Loss]) -> dict[str, Any]:
    """Counts, with the first causes by name."""
    count = sum(loss.questions for loss in losses)
    return {"count": count, "causes": len(losses), "first": [str(one) for one in losses[:LISTED]]}


def _of_records(group: Sequence[DataError]) -> Loss:
    first, questions = group[0], sum(error.questions for error in group)
    if len(group) == 1:
        return Loss(str(first), (), questions)
    place = {"file": first.file, "field": first.field}
    values = {"found": first.found, "expected": first.expected}
    names = tuple(f"record {error.record}" for error in group)
    return Loss(str(DataError(first.message, **place, **values)), names, questions)


def _of_cases(video: str, error: str, keys: Sequence[str]) -> Loss:
    cause = error if video in error else f"{video}: {error}"
    return Loss(cause, tuple(keys), len(keys))


def _costliest(losses: Iterable[Loss]) -> list[Loss]:
    return sorted(losses, key=lambda loss: -loss.questions)
