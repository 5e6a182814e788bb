"""`--plugin.data FILE.jsonl` as one more dataset among the host's; bad records are blank, as there
(`records.py`).
"""

from __future__ import annotations

from typing import Optional, Union

from torch.utils.data import Dataset

from sama_plugin.data.collate import Collator, Prepared
from sama_plugin.data.quarantine import BLANK_LENGTH, TolerantCollator
from sama_plugin.data.report import BAD_RECORD, BadRecord
from sama_plugin.data.sources import Item, SourceConfig, open_source


class OwnData(Dataset):
    """Our canonical samples, prepared for the collator.

    Attributes:
        length: tokens of each sample, roughly, for the host's sampler that groups by length.
    """

    def __init__(self, path: str, root: Optional[str], collator: Collator):
        self.source = open_source(SourceConfig(format="sama", path=path, root=root or ""))
        self.collator = TolerantCollator(collator)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, number: int) -> Prepared:
        return self.collator.prepare(self._read(number))

    @property
    def length(self) -> list[int]:
        return [self._length(self._read(number)) for number in range(len(self))]

    def _read(self, number: int) -> Union[Item, BadRecord]:
        config = self.source.config
        try:
            return Item(self.source[number], None, config)
        except BAD_RECORD as error:
            return BadRecord.of(error, config.name, config.path, f"sample {number}")

    def _length(self, item: Union[Item, BadRecord]) -> int:
        if isinstance(item, BadRecord):
            return BLANK_LENGTH
        ours = self.collator.collator
        tokens = ours.encoder.tokens_per_frame * ours.frames.llm + ours.frames.aggregator
        turns = item.sample.turns
        return tokens + sum(len(turn.user) + len(turn.assistant or "") for turn in turns) // 3
