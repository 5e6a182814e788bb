"""A clip on disk with its masks, and sentences about it as canonical Samples.

`SceneFolder` draws clips where they are missing; a `Scene` turns what the languages say (indices of
things) into regions and targets (masks). Frames are stored as one memory-mapped array a clip by
default, which is read ten times faster than anything compressed. Used by `write`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Callable, Iterable, Optional, Sequence, Union

import numpy as np

from sama_plugin.atomic import atomic_dir, atomic_path
from sama_plugin.data.formats import expressions as wording
from sama_plugin.data.formats.sama_clip import VIDEO_STRIDE
from sama_plugin.data.pointing import as_kind
from sama_plugin.dialog.parse import parse_answer
from sama_plugin.dialog.sample import Media, Region, Sample, Target, Turn
from sama_plugin.errors import ConfigError
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.miniworld import reference as ref
from sama_plugin.miniworld.chat import ChatTurn
from sama_plugin.miniworld.dialogues import GroundedTurn
from sama_plugin.miniworld.expressions import Expression
from sama_plugin.miniworld.nameless import nameless
from sama_plugin.miniworld.regions import RegionQuestion
from sama_plugin.miniworld.render import render
from sama_plugin.miniworld.things import FPS, Clip
from sama_plugin.miniworld.world import sample_clip

VIDEOS = "videos/mevis"
"""Where clips lie below a world's folder. Records of SAMA-239K find their mask dictionary by the
dataset's name in the path; the mini world's expressions are of MeViS's kind.
"""
MIN_POINTED = 24
"""Least visible pixels of a thing on a frame on which it is pointed at."""


@dataclass(frozen=True)
class Scene:
    """A clip, where its frames are, and for each of its things the mask track and the frames on
    which it is seen well enough to point at it.
    """

    clip: Clip
    media: Media
    tracks: tuple[MaskTrack, ...]
    seen: tuple[tuple[int, ...], ...]

    def track(self, things: Sequence[int]) -> MaskTrack:
        """Masks of one thing, or of several as one."""
        return reduce(MaskTrack.union, [self.tracks[index] for index in things])

    def region(self, index: int, step: int = 1) -> Region:
        """A thing pointed at by its mask, on all frames that are a multiple of `step`."""
        rles = self.tracks[index].rles
        frames = [frame for frame in self.seen[index] if frame % step == 0]
        return Region(tuple(RegionPrompt.from_mask(frame, rles[frame]) for frame in frames))

    def pointed(self, index: int, kind: str, rng: np.random.Generator) -> Region:
        """A thing pointed at on one random frame, with a "mask", "box", "points" or "scribble"."""
        frame = int(rng.choice(self.seen[index]))
        prompt = RegionPrompt.from_mask(frame, self.tracks[index].rles[frame])
        return Region((as_kind(prompt, kind, rng),))

    def sample(self, name: str, turns: Iterable[Turn], tags: tuple[str, ...] = ()) -> Sample:
        """A conversation about the clip."""
        return Sample(f"{self.clip.name}/{name}", self.media, tuple(turns), tags=tags).validate()

    def grounded(
        self, turn: GroundedTurn, region: Optional[Callable[[int], Region]] = None
    ) -> Turn:
        """A turn of a dialogue; `region` says how things are pointed at (default: all masks)."""
        region = region or self.region
        phrases = parse_answer(turn.answer).grounded if turn.targets else ()
        return Turn(
            turn.question,
            turn.answer,
            regions=tuple(region(index) for index in turn.regions),
            targets=tuple(
                Target(phrase.text, self.tracks[index])
                for phrase, index in zip(phrases, turn.targets)
            ),
        )

    def expression(self, expression: Expression) -> Turn:
        """A request for one mask; what is not there is answered in words."""
        if expression.things:
            return wording.turn(expression.text, self.track(expression.things))
        missing = expression.text[len("the ") :]
        return Turn(wording.ask(expression.text), f"There is no {missing}.")

    def asked(self, question: RegionQuestion, region: Callable[[int], Region]) -> Turn:
        """A question about regions."""
        regions = tuple(region(index) for index in question.things)
        return Turn(question.question, question.answer, regions=regions)

    def description(self, index: int) -> str:
        """Two sentences on a thing: what it is, what it does."""
        name = ref.a(self.clip.things[index].name(2))
        return f"It is {name}. It {ref.deed(self.clip, index)}."


def plain(turn: ChatTurn) -> Turn:
    """A turn of plain talk."""
    return Turn(turn.question, turn.answer)


class SceneFolder:
    """The clips of one split below a folder, drawn when they are first asked for.

    Args:
        folder: clips lie in its `VIDEOS`.
        split: "train" or "heldout".
        frames: "npy" (one array a clip), "png" or "jpg" (a folder of images a clip), or "mp4".
    """

    def __init__(self, folder: Union[str, Path], split: str, frames: str = "npy"):
        if frames not in _WRITERS:
            known = ", ".join(_WRITERS)
            raise ConfigError(f"mini world: unknown kind of frames {frames!r}; known: {known}")
        self.folder, self.split, self.frames = Path(folder), split, frames
        (self.folder / VIDEOS).mkdir(parents=True, exist_ok=True)

    def scene(self, seed: int, named: bool = True) -> Scene:
        """The scene of a seed, its frames on disk; if not `named`, its things are `nameless`."""
        clip = sample_clip(seed, self.split)
        clip = clip if named else nameless(clip)
        frames, visible = render(clip)
        suffix = "" if self.frames in ("png", "jpg") else f".{self.frames}"
        path = self.folder / VIDEOS / f"{clip.name}{suffix}"
        if not path.exists():
            _WRITERS[self.frames](path, frames)
        media = Media("video", str(path.absolute()), VIDEO_STRIDE if suffix == ".mp4" else 1)
        alone = [visible == index + 1 for index in range(len(clip.things))]  # N of (T, H, W)
        seen = [np.flatnonzero(masks.sum((1, 2)) >= MIN_POINTED).tolist() for masks in alone]
        return Scene(
            clip=clip,
            media=media,
            tracks=tuple(MaskTrack.from_masks(masks) for masks in alone),
            seen=tuple(map(tuple, seen)),
        )


def _write_array(path: Path, frames: np.ndarray) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, frames)


def _write_images(path: Path, frames: np.ndarray, suffix: str, **options) -> None:
    from PIL import Image

    with atomic_dir(path) as temporary:
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(temporary / f"{number:05d}.{suffix}", **options)


def _write_png(path: Path, frames: np.ndarray) -> None:
    _write_images(path, frames, "png", compress_level=1)


def _write_jpg(path: Path, frames: np.ndarray) -> None:
    _write_images(path, frames, "jpg", quality=95, subsampling=0)


def _write_mp4(path: Path, frames: np.ndarray) -> None:
    from sama_plugin.viz.write import write_video

    write_video(path, frames, fps=FPS)


_WRITERS = {"npy": _write_array, "png": _write_png, "jpg": _write_jpg, "mp4": _write_mp4}
