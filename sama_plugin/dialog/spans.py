"""Segments to token ids, labels and slots: where each kind of token sits, counted exactly.

A prompt is a list of `Segment`s. Text is encoded run by run (neighbouring runs of one voice
together, as the host's own processor would see them), everything else is a known number of one
known token. Slots are therefore known before any pixel is decoded, and `check_slots` compares them
with what was planned; hosts that silently truncate never get the chance. Used by `data/encode.py`,
`infer/session.py` and `data/peek.py`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Iterable, Mapping, Optional, Sequence

from sama_plugin.dialog.tokens import (
    CONTEXT_SLOT,
    PHRASE_CLOSE,
    PHRASE_OPEN,
    REGION_CLOSE,
    REGION_OPEN,
    REGION_SLOT,
    SEG,
)
from sama_plugin.dialog.wording import TextEncoder
from sama_plugin.errors import SlotError

IGNORE = -100
"""Label of a position without loss (the value torch's cross entropy and every host ignore)."""

SLOT_KINDS = ("image", "region", "context", "seg")


@dataclass(frozen=True)
class Segment:
    """A run of one kind.

    kind: "text" (people's words, specials split), "special" (template or mark text, specials are
    tokens), or a slot
    kind: "image", "region", "context", "seg" (`count` times the token `text`). `supervised` puts a
    loss on the run. `apart`: text that goes on in the middle of a word, encoded by itself.
    """

    kind: str
    text: str
    count: int = 1
    supervised: bool = False
    apart: bool = False


@dataclass(frozen=True)
class Span:
    """Positions [start, end) of a laid-out sequence that came from segments of one kind."""

    start: int
    end: int
    kind: str
    supervised: bool


@dataclass
class Layout:
    """A token sequence: ids, labels (IGNORE: no loss), spans in order, positions of slots."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    slots: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in SLOT_KINDS})

    def add(self, ids: Sequence[int], kind: str, supervised: bool) -> None:
        """Append a run."""
        start = len(self.ids)
        self.ids += ids
        self.labels += ids if supervised else [IGNORE] * len(ids)
        self.spans.append(Span(start, len(self.ids), kind, supervised))
        if kind in self.slots:
            self.slots[kind] += range(start, len(self.ids))

    def extend(self, other: Layout) -> None:
        """Append another sequence, as it was laid out."""
        shift = len(self.ids)
        self.ids += other.ids
        self.labels += other.labels
        self.spans += [
            Span(span.start + shift, span.end + shift, span.kind, span.supervised)
            for span in other.spans
        ]
        for kind, positions in other.slots.items():
            self.slots[kind] += [position + shift for position in positions]


def region(slots: int) -> tuple[Segment, ...]:
    """`<vp>`, the region's slots, `</vp>`."""
    return (
        Segment("special", REGION_OPEN),
        Segment("region", REGION_SLOT, slots),
        Segment("special", REGION_CLOSE),
    )


def context(frames: int, end: str = "\n") -> tuple[Segment, ...]:
    """One context slot a frame and `end`; nothing without frames."""
    if frames == 0:
        return ()
    return (Segment("context", CONTEXT_SLOT, frames), *((Segment("text", end),) if end else ()))


def grounded(answer: str) -> tuple[Segment, ...]:
    """An answer whose phrase marks are tokens and whose [SEG]s are slots, all supervised."""
    kinds = {PHRASE_OPEN: "special", PHRASE_CLOSE: "special", SEG: "seg"}
    segments = []
    while answer:
        found = [(answer.find(mark), mark) for mark in kinds if mark in answer]
        position, mark = min(found) if found else (len(answer), "")
        if position:
            segments.append(Segment("text", answer[:position], supervised=True))
        if mark:
            segments.append(Segment(kinds[mark], mark, supervised=True))
        answer = answer[position + len(mark) :]
    return tuple(segments)


def literal(encoder: TextEncoder, text: str, image_token: str) -> tuple[Segment, ...]:
    """Trusted text with its special tokens; the host's image placeholders become slots."""
    segments: list[Segment] = []
    for piece, is_token in encoder.cut(text):
        if piece == image_token:
            if segments and segments[-1].kind == "image":
                segments[-1] = Segment("image", piece, segments[-1].count + 1)
            else:
                segments.append(Segment("image", piece))
        else:
            segments.append(Segment("special" if is_token else "text", piece))
    return tuple(segments)


def typed(segments: Iterable[Segment], encoder: TextEncoder) -> list[Segment]:
    """People's words, cut inside every control of the template that they hold; the template's own
    text does not go through here.
    """
    found: list[Segment] = []
    for segment in segments:
        pieces = encoder.apart(segment.text) if segment.kind == "text" else [segment.text]
        for number, piece in enumerate(pieces):
            found.append(dataclasses.replace(segment, text=piece, apart=number > 0))
    return found


def lay(segments: Iterable[Segment], encoder: TextEncoder) -> Layout:
    """Token ids, labels and slots of a list of segments."""
    layout = Layout()
    pending: Optional[Segment] = None
    for segment in segments:
        if pending and pending.kind == segment.kind == "text" and _same_voice(pending, segment):
            pending = dataclasses.replace(pending, text=pending.text + segment.text)
            continue
        _add(layout, pending, encoder)
        pending = segment
    _add(layout, pending, encoder)
    return layout


def check_slots(layout: Layout, expected: Mapping[str, int], sample_id: str) -> None:
    """Compare the number of slots of every kind with what was planned.

    Raises:
        SlotError: naming the sample, the kind and both numbers.
    """
    for kind in SLOT_KINDS:
        found, planned = len(layout.slots[kind]), expected.get(kind, 0)
        if found != planned:
            raise SlotError(
                f"sample {sample_id!r}: {found} {kind} slots in the token sequence, {planned} "
                "planned; the text holds a placeholder it should not, or the frame plan belongs "
                "to another sample"
            )


def _same_voice(left: Segment, right: Segment) -> bool:
    return left.supervised == right.supervised and not right.apart


def _add(layout: Layout, segment: Optional[Segment], encoder: TextEncoder) -> None:
    if segment is None or segment.count == 0:
        return
    if segment.kind == "text":
        encode = encoder.continued if segment.apart else encoder.plain
        ids = encode(segment.text)
    else:
        ids = [encoder.ids[segment.text]] * segment.count
    layout.add(ids, segment.kind, segment.supervised)
