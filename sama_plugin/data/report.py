"""What to do with a bad record: stop, or set it aside and say so. Never replace it by another.

Parsers call `drop` for what is lost (a record, or one turn of it) and `note` for what is kept but
odd. Training uses `Quarantine` with a budget, `sama data check` a `Quarantine` without one, tests
and converters `Strict`. What only shows when a clip is decoded travels to the trainer as
`BadRecord`s (`quarantine.py`, `train/bad_records.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Protocol

from sama_plugin.errors import DataError, MediaError, RegionError, SamaError
from sama_plugin.logs import get_logger, warn_once

MALFORMED = (SamaError, AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)
"""What a parser meets in a record whose fields are absent or of the wrong kind; caught record by
record, so that no record can stop a run or a worker."""


BAD_RECORD = (DataError, MediaError, RegionError)
"""What a record that was parsed may still do when it is read, pointed at, decoded or encoded. Other
errors are of settings or of the program, and stop a run."""


class Report(Protocol):
    """Where parsers send what they find."""

    def drop(self, error: DataError) -> None:
        """A record or turn is lost; may raise `error`."""

    def note(self, error: DataError) -> None:
        """A record or turn is kept, but odd."""


class Strict:
    """The first bad record stops the run; oddities are logged once a reason."""

    def drop(self, error: DataError) -> None:
        raise error

    def note(self, error: DataError) -> None:
        warn_once(f"data-{error.reason}", str(error))


class Quarantine:
    """Collects. More than `budget` lost questions or turns stop the run with the first error.

    Attributes:
        dropped, noted: everything reported, in order; a record that is lost whole is one error.
        lost: questions and turns that went with what was dropped.
    """

    def __init__(self, budget: Optional[int] = None):
        self.budget = budget
        self.dropped: list[DataError] = []
        self.noted: list[DataError] = []
        self.lost = 0

    def drop(self, error: DataError) -> None:
        self.dropped.append(error)
        self.lost += error.questions
        if self.budget is not None and self.lost > self.budget:
            first = self.dropped[0]
            raise DataError(
                f"more than {self.budget} bad records or turns ({self.summary()}), first: {first}",
                file=first.file,
                reason="budget",
            ) from first

    def note(self, error: DataError) -> None:
        self.noted.append(error)

    def summary(self) -> str:
        """Lost questions and turns by reason, most frequent first."""
        counts: Counter[str] = Counter()
        for error in self.dropped:
            counts[error.reason or "unnamed"] += error.questions
        return ", ".join(f"{reason}: {count}" for reason, count in counts.most_common()) or "none"

    def log(self, name: str) -> None:
        """One warning with the counts, when anything was dropped."""
        if self.dropped:
            get_logger("data").warning(
                "%s: %d bad records or turns set aside (%s); `sama data check` lists them",
                name,
                self.lost,
                self.summary(),
            )


@dataclass(frozen=True)
class BadRecord:
    """A record that was set aside when its turn came, in words that a worker process can send.

    Two are the same record when they are equal: source, annotation file and name decide.
    """

    source: str  # name of the source in the mixture
    file: str  # annotation file
    record: str  # the sample's id, or the line that could not be read
    reason: str = field(compare=False)
    message: str = field(compare=False)

    @classmethod
    def of(cls, error: Exception, source: str, file: str, record: str) -> BadRecord:
        """What `error` says of a record of `source`, which is called `record` if it does not."""
        found = as_data_error(error).at(file=file, record=record)
        return cls(source, file, str(found.record), found.reason or "bad_record", str(found))


class RecordReport:
    """A report that knows which file and record it is about.

    Args:
        questions: that go with the record if it is lost whole.
    """

    def __init__(self, report: Report, file: str, record: Any, questions: int = 1):
        self.report, self.file, self.record = report, file, record
        self._left = questions

    def drop(self, error: Exception, field: Optional[str] = None) -> None:
        """What is lost, and why: one of `MALFORMED`. Without `field` it is all of the record that
        was not dropped before."""
        lost = 1 if field else max(1, self._left)
        self._left -= lost
        found = as_data_error(error)
        self.report.drop(found.at(file=self.file, record=self.record, field=field, questions=lost))

    def note(self, error: DataError, field: Optional[str] = None) -> None:
        self.report.note(error.at(file=self.file, record=self.record, field=field))


def count_entries(record: Any, *fields: str) -> int:
    """How many entries these lists or mappings of a record have, as far as it has them."""
    found = [record.get(field) for field in fields] if isinstance(record, Mapping) else []
    return sum(len(one) for one in found if isinstance(one, (list, dict)))


def as_data_error(error: Exception) -> DataError:
    """What a record did to its parser, as the error of a record."""
    if isinstance(error, DataError):
        return error
    if isinstance(error, KeyError):
        name = str(error.args[0]) if error.args else ""
        return DataError("a required field is absent", field=name, reason="missing_field")
    if isinstance(error, SamaError):
        reason = "unreadable_media" if isinstance(error, MediaError) else "bad_region"
        return DataError(str(error), reason=reason)
    kind = type(error).__name__
    return DataError(f"a field has the wrong kind ({kind}: {error})", reason="bad_field")
