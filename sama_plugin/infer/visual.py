"""Frames of one video as the language side sees them: each is encoded once, for all turns.

Holds the projected visual tokens of every frame any turn has asked for and the aggregator's spatial
pass over the sparse frames, and builds from them the `SamaBatch` of whatever part of the
conversation the KV cache has not read yet: normally one turn, the whole conversation when a saved
session is taken up again. Used by `session.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from sama_plugin.data.batch import SamaBatch
from sama_plugin.data.encode import Question
from sama_plugin.data.regions import Crop, RegionEntries, VisualRow, joined, region_rule
from sama_plugin.dialog.sample import Region
from sama_plugin.media.frames import FramePlan
from sama_plugin.media.video import VideoReader
from sama_plugin.model.attach import SamaModel
from sama_plugin.model.sama import VisualCache

CHUNK = 16
"""Frames a ViT pass."""


@dataclass
class Turn:
    """One turn as the model reads it.

    `words` is the question with a mark at each region; `prompt_ids` go from the end of the previous
    answer to the generation prompt; `answer_ids` from there to the end of the answer, its end token
    included.
    """

    asked: str
    words: str
    regions: tuple[Region, ...]
    plan: FramePlan
    question: Question
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...] = ()
    seg_states: Optional[Tensor] = None  # (S, C); None in a turn read from a file
    entries: Optional[RegionEntries] = None  # of its regions, while it is being asked


class VisualMemory:
    """The encoded frames of one video.

    Args:
        plan: the session's frozen frame plan; its rows are encoded at once.
    """

    def __init__(self, sama: SamaModel, reader: VideoReader, plan: FramePlan):
        self.sama, self.reader, self.plan = sama, reader, plan
        self.row: dict[VisualRow, int] = {}  # source frame, or crop of one, to row of `features`
        self.rule = region_rule(
            sama.config.region,
            sama.adapter.grid(sama.host),
            sama.config.compat,
            sama.config.seed,
        )
        self.features = torch.zeros(0, sama.modules.tokens, sama.modules.width, device=sama.device)
        self.deep: Optional[Tensor] = None  # what the host adds to its first layers, if it does
        self.times: list[float] = []
        self.add(plan.rows)
        with torch.no_grad():
            sparse = self.features[self._rows(plan.aggregator)].to(sama.modules.dtype)
            times = torch.tensor([self.times[self.row[frame]] for frame in plan.aggregator])
            self.spatial = sama.modules.aggregator.spatial(sparse, times.to(sama.device))

    @property
    def encodes(self) -> int:
        """Frames and crops the vision tower has encoded; never more than there are different ones
        in the turns' plans.
        """
        return len(self.row)

    def add(self, frames: Sequence[int]) -> None:
        """Encode those of `frames` that are not there yet."""
        new = [frame for frame in dict.fromkeys(frames) if frame not in self.row]
        for start in range(0, len(new), CHUNK):
            chunk = new[start : start + CHUNK]
            self._encode(chunk, self.reader.frames(chunk))

    def add_turn(self, turn: Turn) -> None:
        """Encode what a question shows and points at and is not there yet."""
        self.add(turn.plan.rows)
        turn.entries = self.add_regions(turn.regions)

    def add_regions(self, regions: Sequence[Region]) -> RegionEntries:
        """What the region encoder reads of these; encode what is not there yet."""
        entries = self.rule.entries(regions, self.reader.size)
        self.add([row for row in entries.seen if not isinstance(row, Crop)])
        for crop in entries.crops:
            if crop not in self.row:
                self._encode([crop], crop.cut(self.reader.frames([crop.frame])[0])[None])
        return entries

    def region_slots(self, regions: Sequence[Region]) -> list[int]:
        """Tokens of each region; counted on the encoded frames where a released encoder cannot say
        it before.
        """
        count = getattr(self.sama.modules.region, "count", None)
        if count is None:
            return [self.rule.slots(region, self.reader.size) for region in regions]
        entries = self.add_regions(regions)
        features = self.features[self._rows(entries.seen)]  # (M, N, C)
        weights = torch.from_numpy(entries.weights).to(features.device)
        owner = torch.tensor(entries.owner, device=features.device)
        mine = [owner == number for number in range(len(regions))]
        return [count(features[one], weights[one]) for one in mine]

    @property
    def cache(self) -> VisualCache:
        """What the taps read instead of pixels."""
        return VisualCache(self.features, self.spatial, self.deep)

    def batch(self, turns: Sequence[Turn], first: bool) -> SamaBatch:
        """Slots of consecutive turns. `first`: the first of them opens the conversation and shows
        the frames.
        """
        prompted = [turn for turn in turns if self.plan.aggregator or turn.regions]
        questions = [turn.question for turn in prompted]
        length = max((len(question.ids) for question in questions), default=1)
        owners = [number for number, turn in enumerate(prompted) for _ in turn.regions]
        regions = [region for turn in prompted for region in turn.regions]
        entries = self._entries(prompted)
        place = entries.place
        frames = [_frame(row) for row in sorted(self.row, key=self.row.get)]
        return SamaBatch(
            frame_owner=_long([0] * len(frames)),
            frame_index=_long(frames),
            frame_time=torch.tensor(self.times),
            aggregator_rows=self._rows(self.plan.aggregator),
            keep_rows=self._rows(self.plan.llm if first else ()),
            keep_moment=torch.tensor(
                [self.plan.moment(f) for f in (self.plan.llm if first else ())]
            ),
            prompt_owner=_long([0] * len(prompted)),
            question_ids=_padded([question.ids for question in questions], length),
            question_mask=_padded(
                [[1] * len(question.ids) for question in questions], length
            ).bool(),
            question_kind=_padded([question.kinds for question in questions], length),
            region_prompt=_long(owners),
            entry_owner=_long(entries.owner),
            entry_row=self._rows(entries.seen),
            entry_weights=torch.from_numpy(entries.weights),
            entry_shape=torch.from_numpy(entries.shape),
            entry_place=None if place is None else torch.from_numpy(place),
            region_slots=_long(self.region_slots(regions)),
            sample_ids=[self.reader.name],
        )

    def _entries(self, turns: Sequence[Turn]) -> RegionEntries:
        parts = [turn.entries or self.add_regions(turn.regions) for turn in turns]
        parts = parts or [self.rule.entries((), self.reader.size)]
        return joined(parts, [len(turn.regions) for turn in turns])

    def _encode(self, rows: Sequence[VisualRow], frames: np.ndarray) -> None:
        visual = self.sama.encode_frames(self.sama.adapter.pixels(frames, self.sama.host))
        self.features = torch.cat([self.features.to(visual.features.dtype), visual.features])
        if visual.deep is not None:
            before = visual.deep[:0] if self.deep is None else self.deep
            self.deep = torch.cat([before, visual.deep])  # (NF, D, N, C)
        self.times += self.reader.times([_frame(row) for row in rows])
        self.row.update({row: len(self.row) + number for number, row in enumerate(rows)})

    def _rows(self, seen: Sequence[VisualRow]) -> Tensor:
        return _long([self.row[row] for row in seen])


def _frame(row: VisualRow) -> int:
    return row.frame if isinstance(row, Crop) else row


def _long(values: Sequence[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.long)


def _padded(rows: Sequence[Sequence[int]], length: int) -> Tensor:
    padded = torch.zeros(len(rows), length, dtype=torch.long)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = _long(row)
    return padded  # (P, L)
