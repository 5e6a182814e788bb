"""A bad record while training: its place in the batch stays, blank, and nothing stands in for it.

What is wrong with a clip may show only when it is decoded: a truncated file, a frame count that
lies, a file that is gone since the run began. The record is then set aside where it happens, in a
worker process or not. Its place holds two padding tokens without label, frame, region or mask, so
every batch has the samples that seed and epoch say, on any number of workers and ranks, and the
losses are means over what is left. The batch carries the `BadRecord` to the trainer, which counts
and reports it (`train/bad_records.py`). A wrong setting or a defect of the program still stops the
run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence, Union

from sama_plugin.data.collate import Collator, Given, Prepared, mask_labels, split
from sama_plugin.data.decode import Clip
from sama_plugin.data.encode import Encoded
from sama_plugin.data.report import BAD_RECORD, BadRecord
from sama_plugin.data.sources import Item
from sama_plugin.dialog.sample import Media, Sample
from sama_plugin.dialog.spans import Layout
from sama_plugin.media.frames import FramePlan

BLANK_LENGTH = 2
"""Tokens of a blank place: one would have nothing to predict."""


@dataclass(frozen=True)
class TolerantCollator:
    """`collator`, with bad records blank.

    Attributes:
        collator: prepares and lays out; by itself it raises for a bad record.
    """

    collator: Collator

    def __call__(self, items: Sequence[Union[Given, BadRecord]]) -> dict[str, Any]:
        """The batch of `Collator`, whose `sama.bad` names what was set aside."""
        return self.collator.lay([self.prepare(item) for item in items])

    def prepare(self, item: Union[Given, BadRecord]) -> Prepared:
        """One sample, or the blank for it."""
        if isinstance(item, BadRecord):
            return self.blank(item)
        sample, frames = split(item)
        try:
            return self.collator.prepare(sample, frames)
        except BAD_RECORD as error:
            source = item.source if isinstance(item, Item) else None
            name, path = (source.name, source.path) if source else ("", sample.source)
            return self.blank(BadRecord.of(error, name, path, sample.id))

    def blank(self, bad: BadRecord) -> Prepared:
        """What stands in the place of a bad record: nothing to read and nothing to learn."""
        layout = Layout()
        layout.add([self.collator.pad_id] * BLANK_LENGTH, "text", supervised=False)
        sample = Sample(bad.record, Media("none"), ())
        clip = Clip(FramePlan(total=0, aggregator=(), llm=(), prompted=()), (), (), {})
        entries = self.collator.regions.entries((), clip.size)
        labels = mask_labels(sample, clip, self.collator.label_size)
        return Prepared(sample, clip, Encoded(layout, ()), (), entries, labels, bad)
