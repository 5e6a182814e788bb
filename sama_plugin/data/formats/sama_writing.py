"""Writes Samples in the record layout that SAMA-239K and SAMA-Bench share, with mask dictionaries.

One record a Sample. A turn that describes one region in the words of a parser's template becomes a
`description`, every other turn is part of the `conversation`. Objects are found by their masks: a
region and a target of the same clip with the same masks are one annotation. Used by `sama_239k` and
`sama_bench`, and through them by the mini world.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable, Mapping, Optional, Sequence, Union

from sama_plugin.data.formats import files
from sama_plugin.data.formats.sama_clip import dataset_of, dictionary_name
from sama_plugin.data.formats.segmentations import RLE
from sama_plugin.data.library import Library
from sama_plugin.dialog.sample import Region, Sample, Turn
from sama_plugin.dialog.tokens import LEGACY_MASK, REGION_MARK
from sama_plugin.errors import DataError
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.media.video import frame_files

PathLike = Union[str, Path]
Masks = Mapping[int, Optional[RLE]]


def write(
    samples: Iterable[Sample],
    path: PathLike,
    root: PathLike,
    *,
    describe: Sequence[str],
    numbered: bool = False,
) -> int:
    """Write records to `path` and one mask dictionary a dataset beside it; returns their number.

    Args:
        describe: questions that ask for a description, with one `<region>` each.
        numbered: give questions and descriptions ids, as the benchmark has them.

    Raises:
        DataError: media is no video, an object is never visible, a region is not made of masks, or
            the video's path names none of the datasets.
    """
    records, dictionaries = [], _Dictionaries()
    for sample in samples:
        record = _Record(sample, root, dictionaries)
        for turn in sample.turns:
            record.add(turn, describe)
        records.append(record.to_json(numbered))
    files.write_json(path, records)
    for dataset, masks in dictionaries.masks.items():
        files.write_json(Path(path).with_name(dictionary_name(dataset)), masks)
    return len(records)


@dataclass
class _Dictionaries:
    """Masks of all objects by dataset and annotation id; visible masks tell objects apart."""

    masks: dict[str, dict[str, list[Optional[RLE]]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    known: dict[tuple, int] = field(default_factory=dict)

    def open(self, video: str) -> None:
        """Readers want the dictionary of a video's dataset, also when nothing of it has a mask."""
        self.masks[dataset_of(video)]

    def number(self, video: str, masks: Masks, frames: Sequence[int]) -> int:
        """Annotation id of the object with these masks on the annotated frames."""
        entries = [masks.get(frame) for frame in frames]
        visible = tuple((i, str(rle["counts"])) for i, rle in enumerate(entries) if rle is not None)
        if not visible:
            raise DataError("no mask on any annotated frame", reason="all_masks_absent")
        dataset = dataset_of(video)
        number = self.known.setdefault((video, visible), len(self.known))
        self.masks[dataset].setdefault(str(number), entries)
        return number


class _Record:
    """One Sample on its way to a record."""

    def __init__(self, sample: Sample, root: PathLike, dictionaries: _Dictionaries):
        if sample.media.kind != "video":
            raise DataError("these records are about videos", record=sample.id, field="media.kind")
        self.sample, self.dictionaries = sample, dictionaries
        source = sample.media.sources[0]
        self.video = files.relative(source, root)
        dictionaries.open(self.video)
        self.facts = Library(root).facts(source)
        self.frames = range(0, self.facts.frames, sample.media.frame_stride)
        self.stems = (
            [Path(file).stem for file in frame_files(source)] if os.path.isdir(source) else None
        )
        self.objects: list[int] = []
        self.conversation: list[dict[str, str]] = []
        self.regions: list[list[int]] = []
        self.targets: list[list[list[int]]] = []
        self.descriptions: dict[str, str] = {}

    def add(self, turn: Turn, describe: Sequence[str]) -> None:
        """Add a turn where it belongs."""
        regions = [self._number(_masks_of(region)) for region in turn.regions]
        if not turn.targets and turn.user in [text.format(REGION_MARK) for text in describe]:
            key = f"<obj{self.objects.index(regions[0])}>"
            if self.descriptions.setdefault(key, turn.assistant or "") == turn.assistant:
                return  # a second one of the same object is a turn like others
        user = turn.user.replace(REGION_MARK, LEGACY_MASK)
        self.conversation.append({"from": "human", "value": user})
        self.conversation.append({"from": "gpt", "value": turn.assistant or ""})
        self.regions.append(regions)
        self.targets.append([[self._target(target.track)] for target in turn.targets])

    def to_json(self, numbered: bool) -> dict[str, Any]:
        record: dict[str, Any] = {
            "video": self.video,
            "video_id": self.sample.id,
            "height": self.facts.height,
            "width": self.facts.width,
            "frames": self.stems,
            "anno_map": self.objects,
            "obj_masks": self.regions,
            "groundtruth": self.targets,
            "conversation": self.conversation,
            "description": self.descriptions,
        }
        if numbered:
            for number, message in enumerate(self.conversation[::2]):
                message["question_id"] = f"{self.sample.id}_{number}"
            record["description_id"] = {
                key: f"{self.sample.id}_{key.strip('<>')}" for key in self.descriptions
            }
        return record

    def _target(self, track: Optional[MaskTrack]) -> int:
        if track is None:
            raise DataError("a target without masks", record=self.sample.id, field="targets")
        unknown = [frame for frame in self.frames if frame not in track.rles]
        if unknown:
            raise DataError(
                "a target whose mask is not known on every annotated frame; null would say absent",
                record=self.sample.id,
                field="targets",
                found=f"nothing on frame {unknown[0]}",
            )
        return self._number(track.rles)

    def _number(self, masks: Masks) -> int:
        number = self.dictionaries.number(self.video, masks, self.frames)
        if number not in self.objects:
            self.objects.append(number)
        return number


def _masks_of(region: Region) -> dict[int, Optional[RLE]]:
    masks: dict[int, Optional[RLE]] = {}
    for prompt in region.prompts:
        if prompt.mask is None:
            raise DataError("this format holds masks only", found=prompt.kind, expected="mask")
        masks[prompt.frame] = prompt.mask
    return masks
