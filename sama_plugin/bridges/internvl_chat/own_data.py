"""`--plugin.data FILE.jsonl` as one more dataset among the host's."""

from __future__ import annotations

from typing import Optional

from torch.utils.data import Dataset

from sama_plugin.data.collate import Collator, Prepared
from sama_plugin.data.sources import SourceConfig, open_source


class OwnData(Dataset):
    """Our canonical samples, prepared for the collator.

    Attributes:
        length: tokens of each sample, roughly, for the host's sampler that groups by length.
    """

    def __init__(self, path: str, root: Optional[str], collator: Collator):
        self.source = open_source(SourceConfig(format="sama", path=path, root=root or ""))
        self.collator = collator

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, number: int) -> Prepared:
        return self.collator.prepare(self.source[number])

    @property
    def length(self) -> list[int]:
        frames = self.collator.frames
        tokens = self.collator.encoder.tokens_per_frame * frames.llm + frames.aggregator
        return [
            tokens + sum(len(turn.user) + len(turn.assistant or "") for turn in sample.turns) // 3
            for sample in self.source
        ]
