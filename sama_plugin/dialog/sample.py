"""The canonical Sample: one schema for every dataset, every benchmark and live chat.

A sample is a medium and turns. A turn's user text holds one `<region>` mark for each region the
user points at; its assistant text grounds `targets` with `<p> phrase </p> [SEG]`, one [SEG] a
target. Without targets every mark in the assistant text is ordinary text. Absent masks are absent,
not zero: a target whose masks are unknown has no track. Made by `data/formats`, stored as JSON
lines, read by the frame planner, `data/encode.py` and `data/collate.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Union

from sama_plugin.dialog.parse import parse_answer
from sama_plugin.dialog.tokens import CONTEXT_SLOT, HALF_CHARACTER, REGION_MARK, REGION_SLOT
from sama_plugin.errors import DataError, RegionError
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack

MEDIA_KINDS = ("video", "image", "images", "none")

IMAGE_MARK = "<image>"
"""Stands for one image in the user text of an "images" sample; ordinary text elsewhere."""


@dataclass(frozen=True)
class Media:
    """What the sample is about.

    kind "video" or "image": `source` is a path that `open_video` reads. "images": several pictures
    of plain chat, `source` their paths, with one `<image>` mark each in the user text. "none": text
    only, no source.

    Frame numbers in a sample always count the frames of the source. `frame_stride` n says that only
    every n-th of them is annotated (SA-V: 4), so that plans are laid on those.
    """

    kind: str
    source: Union[str, tuple[str, ...], None] = None
    frame_stride: int = 1

    @property
    def sources(self) -> tuple[str, ...]:
        """All paths, in order."""
        if self.source is None:
            return ()
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)


@dataclass(frozen=True)
class Region:
    """One thing the user points at, on one or several frames; `name` is what a session calls it.

    Without prompts it is a thing that is nowhere to be seen; the model reads one learned "absent"
    vector for it.
    """

    prompts: tuple[RegionPrompt, ...]
    name: str = ""

    @property
    def frames(self) -> tuple[int, ...]:
        """Frames the region is pointed on, ascending, each once."""
        return tuple(sorted({prompt.frame for prompt in self.prompts}))


@dataclass(frozen=True)
class Target:
    """One [SEG] of an answer: its phrase, and its masks (None where they are not annotated)."""

    phrase: str
    track: Optional[MaskTrack] = None


@dataclass(frozen=True)
class Turn:
    """A question and its answer (None while it is being asked)."""

    user: str
    assistant: Optional[str] = None
    regions: tuple[Region, ...] = ()
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One conversation about one medium.

    `source` names the file it came from, `tags` what benchmarks group by (question type, kind of
    expression).
    """

    id: str
    media: Media
    turns: tuple[Turn, ...]
    system: Optional[str] = None
    source: str = ""
    tags: tuple[str, ...] = ()

    @property
    def regions(self) -> tuple[Region, ...]:
        """All regions in text order."""
        return tuple(region for turn in self.turns for region in turn.regions)

    @property
    def targets(self) -> tuple[Target, ...]:
        """All targets in text order; entry i belongs to the i-th [SEG] token."""
        return tuple(target for turn in self.turns for target in turn.targets)

    @property
    def pointed_frames(self) -> tuple[int, ...]:
        """Frames on which some region is pointed, ascending; a frame plan must encode them."""
        return tuple(sorted({frame for region in self.regions for frame in region.frames}))

    def validate(self) -> Sample:
        """This sample, after checking that marks, regions and targets agree.

        Raises:
            DataError: with `reason` set to a reason code.
        """
        if self.media.kind not in MEDIA_KINDS:
            raise self._error("unknown media kind", "media.kind", self.media.kind, MEDIA_KINDS)
        fits = {"none": type(None), "images": tuple}.get(self.media.kind, str)
        if not isinstance(self.media.source, fits):
            raise self._error(
                f"kind {self.media.kind!r} and source disagree",
                "media.source",
                self.media.source,
                fits.__name__,
            )
        if self.media.frame_stride < 1:
            stride = self.media.frame_stride
            raise self._error("a stride below 1", "media.frame_stride", stride, "1 or more")
        if not self.turns:
            raise self._error("no turns", "turns", reason="no_conversation")
        self._validate_images()
        for number, turn in enumerate(self.turns):
            self._validate_turn(turn, f"turns[{number}]", last=number == len(self.turns) - 1)
        return self

    def _validate_images(self) -> None:
        if self.media.kind != "images":
            return
        marks = sum(turn.user.count(IMAGE_MARK) for turn in self.turns)
        if marks != len(self.media.sources):
            raise self._error(
                f"{marks} {IMAGE_MARK} marks for {len(self.media.sources)} images",
                "media.source",
                reason="image_placeholder_mismatch",
            )
        if self.regions or self.targets:
            raise self._error("regions and targets need a single image or video", "media.kind")

    def _validate_turn(self, turn: Turn, where: str, last: bool) -> None:
        marks = turn.user.count(REGION_MARK)
        if marks != len(turn.regions):
            raise self._error(
                f"{marks} {REGION_MARK} marks for {len(turn.regions)} regions",
                f"{where}.user",
                turn.user,
                reason="region_count_mismatch",
            )
        if turn.assistant is None and not last:
            raise self._error("only the last turn may be unanswered", f"{where}.assistant")
        segs = parse_answer(turn.assistant or "").n_seg if turn.targets else 0
        if segs != len(turn.targets):
            raise self._error(
                f"{segs} [SEG] marks for {len(turn.targets)} targets",
                f"{where}.assistant",
                turn.assistant,
                reason="seg_count_mismatch",
            )
        for text in (turn.user, turn.assistant or ""):
            if REGION_SLOT in text or CONTEXT_SLOT in text:
                raise self._error("the text holds a placeholder of the plugin", where, text)
            if not text.isascii() and HALF_CHARACTER.search(text):
                raise self._error(
                    "the text holds half a character, which no tokenizer reads",
                    where,
                    ascii(text),
                    reason="bad_encoding",
                )
        if self.media.kind == "none" and (turn.regions or turn.targets):
            raise self._error("regions or targets without media", where, reason="missing_media")

    def _error(
        self,
        message: str,
        field: str,
        found: Any = None,
        expected: Any = None,
        reason: str = "bad_field",
    ) -> DataError:
        return DataError(
            message,
            file=self.source or None,
            record=self.id,
            field=field,
            found=found,
            expected=expected,
            reason=reason,
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready mapping; one line of our JSONL format. Defaults are left out."""
        media: dict[str, Any] = {"kind": self.media.kind}
        if self.media.source is not None:
            source = self.media.source
            media["source"] = source if isinstance(source, str) else list(source)
        if self.media.frame_stride != 1:
            media["frame_stride"] = self.media.frame_stride
        record: dict[str, Any] = {"id": self.id, "media": media}
        record["turns"] = [_turn_to_json(turn) for turn in self.turns]
        if self.system is not None:
            record["system"] = self.system
        if self.source:
            record["source"] = self.source
        if self.tags:
            record["tags"] = list(self.tags)
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Sample:
        """The inverse of `to_json`; a missing or wrongly shaped field raises DataError."""
        name = record.get("id") if isinstance(record, Mapping) else None
        try:
            media = record["media"]
            sample = cls(
                id=str(record["id"]),
                media=Media(
                    kind=media["kind"],
                    source=_source_from_json(media.get("source")),
                    frame_stride=int(media.get("frame_stride", 1)),
                ),
                turns=tuple(_turn_from_json(turn) for turn in record["turns"]),
                system=record.get("system"),
                source=record.get("source", ""),
                tags=tuple(record.get("tags", ())),
            )
        except KeyError as error:
            raise DataError(
                "a required field is absent",
                record=name,
                field=error.args[0],
                reason="missing_field",
            ) from error
        except (TypeError, AttributeError) as error:
            raise DataError(
                f"a field has the wrong type: {error}", record=name, reason="bad_field"
            ) from error
        except RegionError as error:
            raise DataError(
                str(error), record=name, field="regions", reason="bad_region"
            ) from error
        return sample.validate()


def _source_from_json(source: Any) -> Any:
    return tuple(source) if isinstance(source, list) else source


def _turn_to_json(turn: Turn) -> dict[str, Any]:
    record: dict[str, Any] = {"user": turn.user}
    if turn.assistant is not None:
        record["assistant"] = turn.assistant
    if turn.regions:
        record["regions"] = [_region_to_json(region) for region in turn.regions]
    if turn.targets:
        record["targets"] = [_target_to_json(target) for target in turn.targets]
    return record


def _region_to_json(region: Region) -> dict[str, Any]:
    record: dict[str, Any] = {"prompts": [prompt.to_json() for prompt in region.prompts]}
    if region.name:
        record["name"] = region.name
    return record


def _target_to_json(target: Target) -> dict[str, Any]:
    record: dict[str, Any] = {"phrase": target.phrase}
    if target.track is not None:
        record["track"] = target.track.to_json()
    return record


def _turn_from_json(record: Mapping[str, Any]) -> Turn:
    return Turn(
        user=record["user"],
        assistant=record.get("assistant"),
        regions=tuple(
            Region(
                prompts=tuple(RegionPrompt.from_json(prompt) for prompt in region["prompts"]),
                name=region.get("name", ""),
            )
            for region in record.get("regions", ())
        ),
        targets=tuple(
            Target(
                phrase=target["phrase"],
                track=MaskTrack.from_json(target["track"]) if target.get("track") else None,
            )
            for target in record.get("targets", ())
        ),
    )
