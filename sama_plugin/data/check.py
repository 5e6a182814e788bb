"""`check_source`: read a whole dataset before a GPU is paid for, and say what is wrong with it.

Every record is parsed with videos opened, every region and mask compared with its clip, and the
first and last planned frame of every media file decoded, once. The result lists each problem by
file, record and field. Used by `sama data check`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from sama_plugin.data.decode import check_fits
from sama_plugin.data.formats import read_samples
from sama_plugin.data.report import Quarantine
from sama_plugin.data.sources import SourceConfig
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import DataError, MediaError, RegionError
from sama_plugin.media.frames import FramePolicy, plan_frames
from sama_plugin.media.video import VideoReader, open_video

Progress = Callable[[int], None]


@dataclass
class CheckReport:
    """What a dataset holds and what is wrong with it.

    Attributes:
        counts: samples, turns, regions, targets, media files.
        dropped: records and turns that training would not see. noted: kept, but odd.
    """

    name: str
    counts: Counter = field(default_factory=Counter)
    dropped: list[DataError] = field(default_factory=list)
    noted: list[DataError] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0: nothing is lost. 1: something is. 2: there is no usable sample."""
        if not self.counts["samples"]:
            return 2
        return 1 if self.dropped else 0

    def to_json(self) -> dict[str, Any]:
        """Everything, for `--json`."""
        return {
            "name": self.name,
            "counts": dict(self.counts),
            "reasons": dict(Counter(error.reason or "unnamed" for error in self.dropped)),
            "dropped": [_entry(error) for error in self.dropped],
            "noted": [_entry(error) for error in self.noted],
            "exit_code": self.exit_code,
        }

    def lines(self, most: int = 50) -> list[str]:
        """The report as text; at most `most` problems of each kind are listed."""
        counts = self.counts
        media = f"{counts['media']} media files"
        what = ", ".join(f"{counts[k]} {k}" for k in ("samples", "turns", "regions", "targets"))
        lines = [f"{self.name}: {what} on {media}"]
        for title, errors in (("lost", self.dropped), ("odd, kept", self.noted)):
            reasons = Counter(error.reason or "unnamed" for error in errors)
            summary = ", ".join(f"{name} {count}" for name, count in reasons.most_common())
            lines.append(f"{title}: {len(errors)}" + (f" ({summary})" if summary else ""))
            lines += [f"  [{error.reason or 'unnamed'}] {error}" for error in errors[:most]]
            if len(errors) > most:
                lines.append(f"  ... and {len(errors) - most} more (--json lists all)")
        return lines


def check_source(
    config: SourceConfig,
    frames: Optional[FramePolicy] = None,
    *,
    decode: bool = True,
    progress: Optional[Progress] = None,
) -> CheckReport:
    """Check a dataset.

    Args:
        frames: the policy frames are planned with, where the source names none.
        decode: decode the first and last planned frame of every media file.
        progress: called with the number of samples read so far.
    """
    report = Quarantine()
    result = CheckReport(config.name, dropped=report.dropped, noted=report.noted)
    policy = config.frames or frames or FramePolicy()
    media = _MediaCheck(policy, decode)
    root = config.root or Path(config.path).parent
    options = config.options
    ids: set[str] = set()
    try:
        for sample in read_samples(config.format, config.path, root, report, probe=True, **options):
            _check_id(sample, ids, report, config.path)
            _check_sample(sample, media, report, result.counts, config.path)
            if progress is not None:
                progress(result.counts["samples"])
            if config.limit and result.counts["samples"] >= config.limit:
                break
    except DataError as error:  # the annotation file itself; bad records went to the report
        report.drop(error.at(file=config.path))
    result.counts["media"] = len(media.seen)
    return result


def _check_id(sample: Sample, seen: set[str], report: Quarantine, path: str) -> None:
    """Notes an id that came before: reports and predictions could not tell the two apart."""
    if sample.id in seen:
        message = "the id occurs twice"
        place = {"file": sample.source or path, "record": sample.id, "field": "id"}
        report.note(DataError(message, **place, reason="duplicate_id"))
    seen.add(sample.id)


def _check_sample(
    sample: Sample, media: _MediaCheck, report: Quarantine, counts: Counter, path: str
) -> None:
    try:
        media.check(sample)
    except (MediaError, RegionError) as error:
        report.drop(
            DataError(
                str(error),
                file=sample.source or path,
                record=sample.id,
                field="media" if isinstance(error, MediaError) else "regions",
                reason="unreadable_media" if isinstance(error, MediaError) else "bad_region",
            )
        )
        return
    except DataError as error:
        report.drop(error.at(file=sample.source or path, record=sample.id))
        return
    counts["samples"] += 1
    counts["turns"] += len(sample.turns)
    counts["regions"] += len(sample.regions)
    counts["targets"] += len(sample.targets)


class _MediaCheck:
    """Opens every media file once and remembers its size and length, or what was wrong with it."""

    def __init__(self, policy: FramePolicy, decode: bool):
        self.policy, self.decode = policy, decode
        self.seen: dict[str, Any] = {}

    def check(self, sample: Sample) -> None:
        for path in sample.media.sources:
            if path not in self.seen:
                self.seen[path] = self._open(sample, path)
            if isinstance(self.seen[path], str):
                raise MediaError(self.seen[path])
            size, total = self.seen[path]
            check_fits(sample, size, total)

    def _open(self, sample: Sample, path: str) -> Any:
        try:
            with open_video(path) as reader:
                if self.decode:
                    reader.frames(self._ends(sample, reader))
                return reader.size, len(reader)
        except MediaError as error:
            return str(error)

    def _ends(self, sample: Sample, reader: VideoReader) -> list[int]:
        """First and last frame that a plan of this clip reads."""
        stride, policy = sample.media.frame_stride, self.policy
        rows = plan_frames(len(reader), policy, fps=reader.fps, stride=stride).rows
        return sorted({rows[0], rows[-1]}) if rows else [0]


def _entry(error: DataError) -> dict[str, Any]:
    return {
        "reason": error.reason,
        "file": str(error.file) if error.file is not None else None,
        "record": str(error.record) if error.record is not None else None,
        "field": error.field,
        "message": str(error),
    }
