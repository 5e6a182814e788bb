"""Samples to one batch: the host's own inputs, and the plugin's flat `SamaBatch` beside them.

Per sample (in a worker process): plan, decode the planned frames, tokenise, masks to grids. Then
everything ragged is laid end to end with owner indices. Sequences are padded on the right. Pixels
hold every row of every frame plan; which of them the language model reads is the visual tap's
business (`SamaBatch.keep_rows`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Callable, Optional, Sequence, Union

import numpy as np
import torch
from torch import Tensor

from sama_plugin.data.batch import SamaBatch
from sama_plugin.data.decode import Clip, read_clip
from sama_plugin.data.encode import Encoded, Encoder
from sama_plugin.data.regions import RegionEntries, RegionRule, SamaRule
from sama_plugin.data.report import BadRecord
from sama_plugin.data.sources import Item
from sama_plugin.dialog.sample import Sample
from sama_plugin.dialog.spans import IGNORE
from sama_plugin.media.frames import FramePlan, FramePolicy
from sama_plugin.media.masks import resize_area

Frames = Union[FramePolicy, FramePlan, None]
Given = Union[Sample, tuple[Sample, Frames], Item]
Layout = Callable[[Sequence[Encoded], int], dict[str, Any]]


@dataclass(frozen=True)
class MaskLabels:
    """One entry for every (target, segmenter frame) whose mask is known."""

    target: list[int]
    segment: list[int]
    mask: np.ndarray  # (E, label, label)
    present: list[bool]


@dataclass(frozen=True)
class Prepared:
    """A sample, ready to be laid beside others."""

    sample: Sample
    clip: Clip
    encoded: Encoded
    region_slots: tuple[int, ...]
    entries: RegionEntries
    labels: MaskLabels
    bad: Optional[BadRecord] = None  # why the place is blank (`quarantine.py`)

    @property
    def crops(self) -> list[np.ndarray]:
        """Pixels of the crops that the region encoder reads."""
        frames = dict(zip(self.clip.plan.rows, self.clip.rows))
        return [crop.cut(frames[crop.frame]) for crop in self.entries.crops]


class Collator:
    """Makes batches for one host.

    Args:
        encoder: tokenises for the host.
        pixels: uint8 (N, H, W, 3) to the vision tower's input (N, 3, S, S): `adapter.pixels` of the
            host.
        segment_pixels: the same for the segmenter; None when masks are not trained.
        grid: (h, w) of the visual tokens of a frame.
        frames: policy for samples that come without one.
        context: whether the model has an aggregator; without, every policy's aggregator is 0.
        shape_size: side of the region encoder's shape input.
        regions: how the region encoder is fed; by default as `sama` is.
        label_size: side of mask labels.
        pad_id: token id of padding.
        layout: how sequences share a batch: `padded`, one a row, or `packing.packed`.
    """

    def __init__(
        self,
        encoder: Encoder,
        pixels: Callable[[np.ndarray], Tensor],
        segment_pixels: Optional[Callable[[np.ndarray], Tensor]],
        grid: tuple[int, int],
        frames: FramePolicy,
        shape_size: int = 112,
        label_size: int = 256,
        pad_id: int = 0,
        context: bool = True,
        regions: Optional[RegionRule] = None,
        layout: Optional[Layout] = None,
    ):
        self.regions = regions or SamaRule(grid, shape_size)
        self.layout = layout or padded
        self.encoder, self.pixels, self.segment_pixels = encoder, pixels, segment_pixels
        self.frames, self.context = frames, context
        self.label_size, self.pad_id, self.shape_size = label_size, pad_id, shape_size

    def __call__(self, items: Sequence[Given]) -> dict[str, Any]:
        """What the layout makes of the tokens; `pixel_values` (NF, 3, S, S); `sama`."""
        return self.lay([self.prepare(*split(item)) for item in items])

    def lay(self, prepared: Sequence[Prepared]) -> dict[str, Any]:
        """The batch of samples that are prepared."""
        batch: dict[str, Any] = self.layout([one.encoded for one in prepared], self.pad_id)
        rows = [pixels for one in prepared for pixels in (*one.clip.rows, *one.crops)]
        if rows:
            batch["pixel_values"] = _pixels(rows, self.pixels)
        batch["sama"] = self._flatten(prepared)
        return batch

    def prepare(self, sample: Sample, frames: Frames = None) -> Prepared:
        """Everything about one sample that does not depend on its neighbours in the batch."""
        frames = frames or self.frames
        if isinstance(frames, FramePolicy) and not self.context:
            frames = dataclasses.replace(frames, aggregator=0)
        clip = read_clip(sample, frames, masks=self.segment_pixels is not None)
        slots = tuple(self.regions.slots(region, clip.size) for region in sample.regions)
        encoded = self.encoder.encode(sample, clip.plan, slots)
        entries = self.regions.entries(sample.regions, clip.size)
        labels = mask_labels(sample, clip, self.label_size)
        return Prepared(sample, clip, encoded, slots, entries, labels)

    def _flatten(self, prepared: Sequence[Prepared]) -> SamaBatch:
        return SamaBatch(
            **_frames(prepared),
            **_questions(prepared),
            **self._regions(prepared),
            **(self._masks(prepared) if self.segment_pixels is not None else {}),
            sample_ids=[one.sample.id for one in prepared],
            bad=tuple(one.bad for one in prepared if one.bad is not None),
        )

    def _regions(self, prepared: Sequence[Prepared]) -> dict[str, Tensor]:
        first_row = _starts(_visual_rows(one) for one in prepared)
        first_region = _starts(len(one.sample.regions) for one in prepared)
        entries = [one.entries for one in prepared]
        rows = []
        for one in prepared:
            row = {seen: n for n, seen in enumerate((*one.clip.plan.rows, *one.entries.crops))}
            rows.append([row[seen] for seen in one.entries.seen])
        places = [entry.place for entry in entries if entry.place is not None]
        return {
            "region_slots": _long([slots for one in prepared for slots in one.region_slots]),
            "entry_place": torch.from_numpy(np.concatenate(places)) if places else None,
            "entry_owner": _long(_shifted((entry.owner for entry in entries), first_region)),
            "entry_row": _long(_shifted(rows, first_row)),
            "entry_weights": torch.from_numpy(np.concatenate([e.weights for e in entries])),
            "entry_shape": torch.from_numpy(np.concatenate([e.shape for e in entries])),
        }

    def _masks(self, prepared: Sequence[Prepared]) -> dict[str, Tensor]:
        """Segmenter frames and labels; nothing at all in a batch without targets."""
        counts = [len(one.sample.targets) for one in prepared]
        if not any(counts):
            return {}
        first_target = _starts(counts)
        first_segment = _starts(len(one.clip.segments) for one in prepared)
        labels = [one.labels for one in prepared]
        frames = [frame for one in prepared for frame in one.clip.segments.values()]
        return {
            "segment_pixels": _pixels(frames, self.segment_pixels),
            "segment_moment": torch.tensor(
                [one.clip.plan.moment(frame) for one in prepared for frame in one.clip.segments]
            ),
            "target_owner": _owners(counts),
            "label_target": _long(_shifted((label.target for label in labels), first_target)),
            "label_segment": _long(_shifted((label.segment for label in labels), first_segment)),
            "label_mask": torch.from_numpy(np.concatenate([label.mask for label in labels])),
            "label_present": torch.tensor(
                [present for label in labels for present in label.present], dtype=torch.bool
            ),
        }


def mask_labels(sample: Sample, clip: Clip, size: int) -> MaskLabels:
    """Labels of a sample's targets on its segmenter frames, where the mask is known."""
    targets, segments, masks, present = [], [], [], []
    for number, target in enumerate(sample.targets):
        for position, frame in enumerate(clip.segments):
            if target.track is None or frame not in target.track.rles:
                continue
            mask = target.track.mask(frame)
            targets.append(number)
            segments.append(position)
            masks.append(resize_area(mask, size, size))
            present.append(bool(mask.any()))
    return MaskLabels(targets, segments, _stacked(masks, (size, size)), present)


def split(item: Given) -> tuple[Sample, Frames]:
    """A sample, and the frames it came with."""
    return (item, None) if isinstance(item, Sample) else item[:2]


def padded(encoded: Sequence[Encoded], pad_id: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask`, `labels` (B, L), one sequence a row, padded on the right."""
    length = max(len(one) for one in encoded)
    rows = [one.input_ids for one in encoded]
    return {
        "input_ids": _padded(rows, length, pad_id),
        "attention_mask": _padded([[1] * len(row) for row in rows], length, 0),
        "labels": _padded([one.labels for one in encoded], length, IGNORE),
    }


def _frames(prepared: Sequence[Prepared]) -> dict[str, Tensor]:
    plans = [one.clip.plan for one in prepared]
    times = [dict(zip(one.clip.plan.rows, one.clip.times)) for one in prepared]
    cut = [[crop.frame for crop in one.entries.crops] for one in prepared]
    seen = [[*plan.rows, *crops] for plan, crops in zip(plans, cut)]
    first = _starts(_visual_rows(one) for one in prepared)
    places = [{frame: row for row, frame in enumerate(plan.rows)} for plan in plans]
    sparse = ([row[frame] for frame in plan.aggregator] for row, plan in zip(places, plans))
    dense = ([row[frame] for frame in plan.llm] for row, plan in zip(places, plans))
    return {
        "frame_owner": _owners(_visual_rows(one) for one in prepared),
        "frame_index": _long([frame for frames in seen for frame in frames]),
        "frame_time": torch.tensor(
            [time[frame] for time, frames in zip(times, seen) for frame in frames]
        ).float(),
        "aggregator_rows": _long(_shifted(sparse, first)),
        "keep_rows": _long(_shifted(dense, first)),
        "keep_moment": torch.tensor([plan.moment(frame) for plan in plans for frame in plan.llm]),
    }


def _visual_rows(one: Prepared) -> int:
    return len(one.clip.rows) + len(one.entries.crops)


def _questions(prepared: Sequence[Prepared]) -> dict[str, Tensor]:
    """Turns with context slots or regions, in order, and the prompt of every region."""
    owners, questions, regions = [], [], []
    for number, one in enumerate(prepared):
        for turn, question in zip(one.sample.turns, one.encoded.questions):
            if not (one.clip.plan.aggregator or turn.regions):
                continue
            regions += [len(questions)] * len(turn.regions)
            owners.append(number)
            questions.append(question)
    length = max((len(question.ids) for question in questions), default=1)
    return {
        "prompt_owner": _long(owners),
        "question_ids": _padded([question.ids for question in questions], length, 0),
        "question_mask": _padded([[1] * len(q.ids) for q in questions], length, 0).bool(),
        "question_kind": _padded([question.kinds for question in questions], length, 0),
        "region_prompt": _long(regions),
    }


def _pixels(frames: Sequence[np.ndarray], convert: Callable[[np.ndarray], Tensor]) -> Tensor:
    """(N, 3, S, S); frames of one size are converted together."""
    converted, start = [], 0
    for stop in range(1, len(frames) + 1):
        if stop == len(frames) or frames[stop].shape != frames[start].shape:
            converted.append(convert(np.stack(frames[start:stop])))
            start = stop
    return torch.cat(converted) if converted else convert(np.zeros((0, 1, 1, 3), np.uint8))


def _starts(counts: Any) -> list[int]:
    return np.cumsum([0, *counts]).tolist()


def _shifted(lists: Any, starts: Sequence[int]) -> list[int]:
    return [value + start for values, start in zip(lists, starts) for value in values]


def _owners(counts: Any) -> Tensor:
    return _long([number for number, count in enumerate(counts) for _ in range(count)])


def _long(values: Sequence[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.long)


def _padded(rows: Sequence[Sequence[int]], length: int, value: int) -> Tensor:
    padded = torch.full((len(rows), length), value, dtype=torch.long)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = _long(row)
    return padded


def _stacked(arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return np.stack(arrays).astype(np.float32) if arrays else np.zeros((0, *shape), np.float32)
