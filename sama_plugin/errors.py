"""Every error the plugin raises on purpose, one class a cause.

A message says what happened, with which values, where it came from and what to do next. Callers
catch `SamaError`; the command line prints its message without a traceback and exits 2.
"""

from __future__ import annotations

from typing import Any, Optional


class SamaError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(SamaError, ValueError):
    """A setting, registry name or flag is unknown or has an impossible value."""


class MediaError(SamaError, ValueError):
    """A video, frame folder or image cannot be read, or a frame outside it was asked for."""


class RegionError(SamaError, ValueError):
    """A region prompt is unusable, unknown or named twice, or a placeholder was typed by the
    user.
    """


class SlotError(SamaError, RuntimeError):
    """Placeholders in the token sequence and the vectors to put there do not match in number."""


class HostError(SamaError, RuntimeError):
    """The host model cannot be held: wrong class, already compiled, already attached."""


class CheckpointError(SamaError, RuntimeError):
    """A checkpoint does not fit the host (width, LLM family, tokens) or is damaged."""


class OutputError(SamaError, OSError):
    """An output file or folder cannot be written."""


class PluginError(SamaError, RuntimeError):
    """The launcher or an extension cannot do what was asked."""


class DataError(SamaError, ValueError):
    """A record is bad. Names the file, the record, the field, what was found and what was
    expected; `questions` says how many questions or turns are lost with it.
    """

    def __init__(
        self,
        message: str,
        *,
        file: Optional[str] = None,
        record: Optional[Any] = None,
        field: Optional[str] = None,
        found: Any = None,
        expected: Any = None,
        reason: Optional[str] = None,
        questions: int = 1,
    ):
        self.message = message
        self.file, self.record, self.field = file, record, field
        self.found, self.expected, self.reason = found, expected, reason
        self.questions = questions
        where = [str(file)] if file is not None else []
        where += [f"record {record}"] if record is not None else []
        where += [f"field {field!r}"] if field is not None else []
        parts = [": ".join([*where, message])]
        if found is not None:
            parts.append(f"found {found!r}")
        if expected is not None:
            parts.append(f"expected {expected}")
        super().__init__("; ".join(parts))

    def at(
        self,
        *,
        file: Optional[str] = None,
        record: Optional[Any] = None,
        field: Optional[str] = None,
        questions: int = 1,
    ) -> DataError:
        """The same error with places filled in that the code that found it did not know."""
        return DataError(
            self.message,
            file=self.file if self.file is not None else file,
            record=self.record if self.record is not None else record,
            field=self.field if self.field is not None else field,
            found=self.found,
            expected=self.expected,
            reason=self.reason,
            questions=max(self.questions, questions),
        )
