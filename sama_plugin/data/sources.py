"""A dataset in a configuration, and the dataset itself as a sequence of Samples.

Our own format is read line by line when it is indexed. Other formats are parsed once, when the
source is opened (masks stay RLE): into memory, or, where the annotation is large, into lines of our
own format on disk (`data.prepared`). What is bad is set aside and counted, and more than `budget`
of it stops the run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Literal, NamedTuple, Optional, Sequence, Union, overload

import numpy as np

from sama_plugin.data.formats import FORMATS, read_samples
from sama_plugin.data.pointing import PointingPolicy
from sama_plugin.data.prepared import is_prepared, prepare
from sama_plugin.data.report import BAD_RECORD, BadRecord, Quarantine
from sama_plugin.data.wording import check_templates
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import ConfigError, DataError
from sama_plugin.media.frames import FramePolicy

BUDGET = 1000


@dataclass
class SourceConfig:
    """One dataset of a mixture.

    An epoch sees every sample `repeat` times; with `train.epoch_samples` it sees shares by `weight`
    instead.
    """

    format: str  # a name in the formats registry
    path: str  # annotation file
    root: str = ""  # media folder; empty for the folder of the annotation file
    name: str = ""  # for logs and sample ids; empty for the stem of the annotation file
    repeat: float = 1.0
    weight: float = 1.0
    limit: int = 0  # first samples only; 0 for all
    cap: int = 0  # most items of an epoch, other ones every epoch; 0 for no cap
    ask: tuple[str, ...] = ()  # questions with {} for a phrase, in place of the dataset's own
    group: Literal["auto", "grounded", "plain"] = "auto"  # auto: decided sample by sample
    frames: Optional[FramePolicy] = None  # None for the model's own; plain chat: aggregator 0
    pointing: PointingPolicy = field(default_factory=PointingPolicy)
    probe: bool = False  # open every video while parsing
    budget: int = BUDGET  # bad records and turns that are set aside before the run stops
    options: dict[str, Any] = field(default_factory=dict)  # of the format's `read`

    def __post_init__(self) -> None:
        if min(self.repeat, self.weight, self.limit, self.cap) < 0:
            raise ConfigError(
                f"source {self.path}: repeat {self.repeat}, weight {self.weight}, limit "
                f"{self.limit} and cap {self.cap} must not be negative"
            )
        check_templates(self.ask, self.path)
        self.name = self.name or Path(self.path).stem


class Item(NamedTuple):
    """A sample on its way to a batch."""

    sample: Sample
    frames: Optional[FramePolicy] = None  # its source's frame policy; None: the model's own
    source: Optional[SourceConfig] = None  # where it comes from, for messages


class Source(Sequence[Sample]):
    """The samples of a dataset, and what was set aside while reading it."""

    def __init__(self, config: SourceConfig, samples: Sequence[Sample], report: Quarantine):
        self.config, self.report, self._samples = config, report, samples
        self._length = min(len(samples), config.limit) if config.limit else len(samples)
        if not self._length:
            raise DataError(
                f"source {config.name!r} has no usable sample (set aside: {report.summary()}"
                f"{f'; first: {report.dropped[0]}' if report.dropped else ''})",
                file=config.path,
                reason="no_samples",
            )

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -self._length <= index < self._length:
            raise IndexError(f"source {self.config.name!r} has {self._length} samples, not {index}")
        return self._samples[index % self._length]

    def read(self, index: int) -> Union[Sample, BadRecord]:
        """The sample, or what is wrong with its record."""
        try:
            return self[index]
        except BAD_RECORD as error:
            return BadRecord.of(error, self.config.name, self.config.path, f"sample {index}")

    @property
    def grounded(self) -> np.ndarray:
        """(len,) bool: whether each sample has mask targets."""
        known = getattr(self._samples, "grounded", None)
        if known is None:
            known = [bool(sample.targets) for sample in self._samples]
        return np.array(known[: self._length], dtype=bool)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(self._length))


def open_source(config: SourceConfig) -> Source:
    """Read a dataset.

    Raises:
        ConfigError: unknown format. DataError: unreadable file, no usable sample, or more than
            `budget` bad records.
    """
    module = FORMATS.get(config.format)
    root = config.root or Path(config.path).parent
    report = Quarantine(config.budget)
    if hasattr(module, "LazyLines"):
        samples: Sequence[Sample] = module.LazyLines(config.path, root, **config.options)
    elif is_prepared(config):
        samples = prepare(config, report)
    else:
        options = {"probe": config.probe, **config.options}
        samples = list(read_samples(config.format, config.path, root, report, **options))
    report.log(config.name)
    return Source(config, samples, report)
