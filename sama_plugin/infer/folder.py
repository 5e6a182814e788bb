"""A conversation as a folder that a person opens and a program reads.

    index.html            the page
    conversation.json     turns with ids, plans, regions and mask tracks; `resume_session` reads it
    turn-2.mp4, turn-2.jpg    the clip with the masks of that answer; a contact sheet of it
    masks/2.1.json        one phrase's mask track (RLE a frame, scores)
    region-dog.jpg        what the user pointed at

Every file appears whole or not at all, the page last. Used by `sama chat` and the demo.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Iterator, Sequence, Union

import numpy as np

from sama_plugin import __version__
from sama_plugin.atomic import atomic_path, check_writable
from sama_plugin.dialog.sample import Region
from sama_plugin.infer.answers import Answer, GroundedPhrase
from sama_plugin.infer.page import (
    ConversationView,
    PhraseView,
    RegionView,
    TurnView,
    conversation,
    page,
)
from sama_plugin.infer.record import save_session
from sama_plugin.infer.regions import visibility
from sama_plugin.infer.session import VideoSession
from sama_plugin.infer.visual import Turn
from sama_plugin.media.frames import midpoints
from sama_plugin.viz.colours import Colour, colour_of, hex_of
from sama_plugin.viz.draw import draw_frames, overlay
from sama_plugin.viz.sheet import contact_sheet
from sama_plugin.viz.write import write_jpeg, write_video

SHEET_FRAMES, SHEET_COLUMNS = 12, 3
CHUNK = 16
"""Frames decoded at a time while a video is written."""


def write_conversation(session: VideoSession, folder: Union[str, Path], title: str = "") -> Path:
    """Write everything; returns the path of the page.

    Raises:
        OutputError: the folder cannot be written to; nothing was computed then.
    """
    folder = check_writable(folder)
    title = title or f"A conversation about {session.reader.name}"
    save_session(session, folder / "conversation.json")  # first: videos take long to write
    view = write_media(session, folder, session.reader.name)
    turns = "1 turn" if len(session.turns) == 1 else f"{len(session.turns)} turns"
    document = page(
        title,
        [f"{turns}. What was pointed at is outlined, what was found is filled."],
        [conversation(view)],
        footer=f"sama_plugin {__version__}. Masks and token ids: conversation.json.",
    )
    with atomic_path(folder / "index.html") as temporary:
        temporary.write_text(document, encoding="utf-8")
    return folder / "index.html"


def write_media(
    session: VideoSession, folder: Path, title: str, base: Union[Path, None] = None
) -> ConversationView:
    """Pictures, videos and mask files of a conversation, and what a page needs to show them.

    Args:
        base: folder of the page, to which links are relative; `folder` by default.
    """
    base = base or folder
    colours = phrase_colours(session)
    shown = {name: _hex(colour) for name, colour in colours.items()}
    shown.update({name: hex_of(name) for name in session.regions})
    return ConversationView(
        title,
        _facts(session),
        tuple(_region(session, name, folder, base) for name in session.regions),
        tuple(
            _turn(session, number, turn, answer, colours, folder, base)
            for number, (turn, answer) in enumerate(zip(session.turns, session.answers), start=1)
        ),
        shown,
    )


def phrase_colours(session: VideoSession) -> dict[str, Colour]:
    """A colour for every grounded phrase of the conversation, in the order they came."""
    names = [phrase.name for answer in session.answers for phrase in answer.phrases]
    return {name: colour_of(number) for number, name in enumerate(names)}


def _turn(
    session: VideoSession,
    number: int,
    turn: Turn,
    answer: Answer,
    colours: dict[str, Colour],
    folder: Path,
    base: Path,
) -> TurnView:
    phrases = [phrase for phrase in answer.phrases if phrase.track is not None]
    video = sheet = None
    if phrases:
        look = _Look(session, phrases, [colours[phrase.name] for phrase in phrases], turn.regions)
        sheet = write_jpeg(folder / f"turn-{number}.jpg", look.sheet())
        if not session.reader.still:
            video = write_video(folder / f"turn-{number}.mp4", look.frames(), session.reader.fps)
    return TurnView(
        question=turn.asked,
        answer=answer.text,
        phrases=tuple(
            PhraseView(
                phrase.name,
                phrase.text,
                phrase.start,
                phrase.end,
                _hex(colours[phrase.name]),
                visibility(phrase.track),
                _caption(phrase),
                _link(_write_track(phrase, folder), base) if phrase.track else None,
            )
            for phrase in answer.phrases
        ),
        video=_link(video, base) if video else None,
        sheet=_link(sheet, base) if sheet else None,
        note=_seconds(answer),
    )


class _Look:
    """The clip as one answer sees it: its masks, and the prompts of the question's regions."""

    def __init__(
        self,
        session: VideoSession,
        phrases: Sequence[GroundedPhrase],
        colours: Sequence[Colour],
        regions: Sequence[Region],
    ):
        self.reader = session.reader
        self.style = {
            "tracks": [phrase.track for phrase in phrases],
            "labels": [phrase.text for phrase in phrases],
            "ids": [phrase.name for phrase in phrases],
            "colours": list(colours),
            "prompts": {
                region.name: region.prompts for region in regions if region.name in session.regions
            },
        }

    def frames(self) -> Iterator[np.ndarray]:
        """All frames, drawn, a few in memory at a time."""
        for start in range(0, len(self.reader), CHUNK):
            indices = range(start, min(start + CHUNK, len(self.reader)))
            yield from draw_frames(self.reader.frames(indices), indices=indices, **self.style)

    def sheet(self) -> np.ndarray:
        """Frames spread over the clip, on one picture; names alone, phrases would be too small."""
        indices = midpoints(len(self.reader), SHEET_FRAMES)
        style = {**self.style, "labels": []}
        frames = draw_frames(self.reader.frames(indices), indices=indices, **style)
        times = self.reader.times(indices)
        labels = [f"frame {i} \u00b7 {t:.2f} s" for i, t in zip(indices, times)]
        return contact_sheet(
            list(frames), SHEET_COLUMNS, labels=None if self.reader.still else labels
        )


def _region(session: VideoSession, name: str, folder: Path, base: Path) -> RegionView:
    region = session.regions[name]
    frame = region.frames[0]
    picture = overlay(
        session.reader.frames([frame]), indices=[frame], prompts={name: region.prompts}
    )
    path = write_jpeg(folder / f"region-{name}.jpg", picture[0])
    kinds = sorted({prompt.kind for prompt in region.prompts})
    where = ", ".join(str(one) for one in region.frames)
    return RegionView(name, f"{' and '.join(kinds)} on frame {where}", _link(path, base))


def _write_track(phrase: GroundedPhrase, folder: Path) -> Path:
    path = folder / "masks" / f"{phrase.name}.json"
    record = {"phrase": phrase.text, "score": phrase.score, "track": phrase.track.to_json()}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _facts(session: VideoSession) -> tuple[tuple[str, str], ...]:
    reader, plan = session.reader, session.plan
    height, width = reader.size
    vision, segmenter = session.encodes
    return (
        (f"{len(reader)}", f"frames, {width} \u00d7 {height}, {len(reader) / reader.fps:.1f} s"),
        (f"{len(plan.llm)}", "read by the language model"),
        (f"{len(plan.aggregator)}", "read by the aggregator"),
        (f"{len(plan.prompted)}", "prompt the segmenter"),
        (f"{vision}, {segmenter}", "frames encoded in all (vision tower, segmenter)"),
    )


def _caption(phrase: GroundedPhrase) -> str:
    if phrase.track is None:
        return ""
    seen = len(phrase.track.visible())
    return f"visible in {seen} of {phrase.track.total} frames, presence {phrase.score:.2f}"


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _seconds(answer: Answer) -> str:
    took = answer.seconds
    cut = "" if answer.finished else "; the answer was cut off"
    return f"frames {took.frames:.1f} s, text {took.text:.1f} s, masks {took.masks:.1f} s{cut}"


def _link(path: Path, base: Path) -> str:
    return Path(os.path.relpath(path, base)).as_posix()
