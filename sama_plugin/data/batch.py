"""What one plugin call needs besides the host's own inputs.

Everything ragged is flat: a tensor of items plus an index that says who owns each item. Built by
`data/collate.py` and by `infer/visual.py`, read by `model/taps.py` and `model/sama.py`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from torch import Tensor

from sama_plugin.data.report import BadRecord


@dataclass
class SamaBatch:
    """Frames, questions, regions and mask targets of B samples.

    Letters: NF visual rows (all frames of all samples), NA rows the aggregator reads, NK rows the
    language model reads, P prompts (turns with context or regions), L question length, R regions,
    M region-frame entries, N visual tokens a frame, G segmenter frames, S mask targets ([SEG]
    tokens), E labelled (target, frame) pairs.
    """

    # (NF,) long: sample of each visual row; rows of one sample are contiguous: its frames in time
    # order, then crops of regions
    frame_owner: Tensor
    frame_index: Tensor  # (NF,) long: index in the source file
    frame_time: Tensor  # (NF,) float: seconds
    aggregator_rows: Tensor  # (NA,) long into NF, ascending
    keep_rows: Tensor  # (NK,) long into NF, in the order of the host's placeholders
    keep_moment: Tensor  # (NK,) float: place in the clip, 0 first to 1 last
    prompt_owner: Tensor  # (P,) long: sample of each prompt, ascending, in turn order
    question_ids: Tensor  # (P, L) long, 0 where padded
    question_mask: Tensor  # (P, L) bool
    question_kind: Tensor  # (P, L) long: 0 text, 1 region visual row, 2 region shape row
    region_prompt: Tensor  # (R,) long into P, ascending, in text order
    entry_owner: Tensor  # (M,) long into R
    entry_row: Tensor  # (M,) long into NF
    entry_weights: Tensor  # (M, N) float: covered area of each visual cell, in [0, 1]
    entry_shape: Tensor  # (M, s, s) float: the mask resized by area
    entry_place: Optional[Tensor] = None  # (M, N, 2) float: centre of each cell in the frame
    region_slots: Optional[Tensor] = None  # (R,) long: tokens of each region; None for two each
    segment_pixels: Optional[Tensor] = None  # (G, 3, S, S) float
    segment_moment: Optional[Tensor] = None  # (G,) float: place in the clip, 0 first to 1 last
    target_owner: Optional[Tensor] = None  # (S,) long: sample of each [SEG], in text order
    label_target: Optional[Tensor] = None  # (E,) long into S
    label_segment: Optional[Tensor] = None  # (E,) long into G
    label_mask: Optional[Tensor] = None  # (E, h, w) float in [0, 1]
    label_present: Optional[Tensor] = None  # (E,) bool
    sample_ids: list[str] = field(default_factory=list)
    bad: tuple[BadRecord, ...] = ()  # samples whose place holds padding without loss

    @property
    def samples(self) -> int:
        """B."""
        return len(self.sample_ids)

    @property
    def regions(self) -> int:
        """R."""
        return self.region_prompt.shape[0]

    @property
    def region_vectors(self) -> int:
        """Tokens of all regions together."""
        return 2 * self.regions if self.region_slots is None else int(self.region_slots.sum())

    def to(self, device: Any) -> SamaBatch:
        """Copy with every tensor on `device`; dtypes are kept, modules cast where they use them."""
        moved = {
            item.name: value.to(device, non_blocking=True)
            for item in dataclasses.fields(self)
            if isinstance(value := getattr(self, item.name), Tensor)
        }
        return dataclasses.replace(self, **moved)

    def pin_memory(self) -> SamaBatch:
        """Called by the DataLoader when `pin_memory` is on."""
        pinned = {
            item.name: value.pin_memory()
            for item in dataclasses.fields(self)
            if isinstance(value := getattr(self, item.name), Tensor)
        }
        return dataclasses.replace(self, **pinned)


def empty_batch(samples: int, tokens: int, shape_size: int) -> SamaBatch:
    """A batch without frames, questions, regions or targets: what text-only samples need."""
    long = torch.zeros(0, dtype=torch.long)
    return SamaBatch(
        frame_owner=long,
        frame_index=long,
        frame_time=torch.zeros(0),
        aggregator_rows=long,
        keep_rows=long,
        keep_moment=torch.zeros(0),
        prompt_owner=long,
        question_ids=torch.zeros(0, 1, dtype=torch.long),
        question_mask=torch.zeros(0, 1, dtype=torch.bool),
        question_kind=torch.zeros(0, 1, dtype=torch.long),
        region_prompt=long,
        entry_owner=long,
        entry_row=long,
        entry_weights=torch.zeros(0, tokens),
        entry_shape=torch.zeros(0, shape_size, shape_size),
        sample_ids=[f"empty-{number}" for number in range(samples)],
    )
