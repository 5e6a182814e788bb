"""Mini-world datasets on disk, in the real formats and through their own writers.

A folder holds, besides the clips:

    train:    sama_239k.json with mevis_mask_dict.json, videorefer_700k.json;
              look_alikes/meta_expressions.json, absences/sama_239k.json (`drills`)
    heldout:  sama_bench.json with mevis_mask_dict.json, videorefer_bench_d.json and _q.json
    both:     meta_expressions.json with mask_dict.json (Ref-YouTube-VOS)
              chat.jsonl with meta.json (InternVL)

so that training on the mini world and on the real data differ in paths only. A third of the
training clips are there a second time with things that have no name (`nameless`): regions ask what
they do, expressions find them by it, dialogues ask for what is not there. Used by the demo, the
recipes and the tests.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Optional, Union

import numpy as np

from sama_plugin.data.formats import (
    internvl_meta,
    ref_youtube_vos,
    sama_239k,
    sama_bench,
    videorefer_700k,
    videorefer_bench,
)
from sama_plugin.data.pointing import PointingPolicy
from sama_plugin.data.sources import SourceConfig
from sama_plugin.dialog.sample import Sample, Turn
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.media.frames import FramePolicy
from sama_plugin.miniworld.chat import chat_turns
from sama_plugin.miniworld.dialogues import FOLLOW_UPS, dialogues
from sama_plugin.miniworld.drills import absences, look_alikes
from sama_plugin.miniworld.expressions import expressions
from sama_plugin.miniworld.options import multiple_choice
from sama_plugin.miniworld.regions import region_questions
from sama_plugin.miniworld.scene import VIDEOS, Scene, SceneFolder, plain
from sama_plugin.miniworld.world import SPLITS

EDITION = 3
"""Of the data: one more whenever the same seeds give other files."""
TALKS = 2
"""Conversations about each clip."""
QUESTIONS = 4
"""Questions about regions in one sample."""
CHAT = 8
"""Plain questions about each clip."""
POINTING = ("mask", "box", "points", "scribble")
"""A region of training data is pointed at in any of these ways, on one of its frames."""
NAMELESS_STEP = 3
"""Every so many training clips one is there again with nameless things."""
POINT_STEP = 2
"""Regions of VideoRefer-700K have a mask on every second frame."""


@dataclass(frozen=True)
class _Part:
    """One annotation file: its name, its format, and how it is written."""

    file: str
    format: str
    write: Callable


_BOTH = {
    "expressions": _Part("meta_expressions.json", "ref_youtube_vos", ref_youtube_vos.write),
    "chat": _Part("chat.jsonl", "internvl_meta", internvl_meta.write),
}
PARTS = {
    "train": {
        "dialogues": _Part("sama_239k.json", "sama_239k", sama_239k.write),
        "regions": _Part("videorefer_700k.json", "videorefer_700k", videorefer_700k.write),
        **_BOTH,
        "look_alikes": _Part(
            "look_alikes/meta_expressions.json", "ref_youtube_vos", ref_youtube_vos.write
        ),
        "absences": _Part("absences/sama_239k.json", "sama_239k", sama_239k.write),
    },
    "heldout": {
        "dialogues": _Part("sama_bench.json", "sama_bench", sama_bench.write),
        "descriptions": _Part(
            "videorefer_bench_d.json", "videorefer_bench", videorefer_bench.write
        ),
        "choices": _Part("videorefer_bench_q.json", "videorefer_bench", videorefer_bench.write),
        **_BOTH,
    },
}


def write_world(
    folder: Union[str, Path], split: str, clips: int, seed: int = 0, frames: str = "npy"
) -> dict[str, int]:
    """Write the clips of seeds `seed` to `seed + clips - 1` and all annotation files about them.

    Args:
        folder: made if it is not there; files of the same name are replaced.
        split: "train" or "heldout".
        frames: see `SceneFolder`.

    Returns:
        Number of samples (expressions for Ref-YouTube-VOS) by part.
    """
    scenes = SceneFolder(folder, split, frames)
    found: dict[str, list[Sample]] = defaultdict(list)
    for number in range(seed, seed + clips):
        scene = scenes.scene(number)
        rng = np.random.default_rng([number, SPLITS.index(split), 1])
        for part in PARTS[split]:
            found[part] += _SAMPLES[part](scene, rng)
        if split == "train" and number % NAMELESS_STEP == 0:
            scene = scenes.scene(number, named=False)
            for part, samples in _NAMELESS.items():
                found[part] += samples(scene, rng)
    counts = {}
    for name, part in PARTS[split].items():
        file = Path(folder) / part.file
        file.parent.mkdir(parents=True, exist_ok=True)
        counts[name] = part.write(found[name], file, _root(folder, name))
    entry = internvl_meta.Entry("mini_chat", ".", "chat.jsonl", 1, counts["chat"])
    internvl_meta.write_meta([entry], Path(folder) / "meta.json")
    return counts


def sources(
    folder: Union[str, Path], split: str, shares: Optional[dict[str, float]] = None
) -> list[SourceConfig]:
    """The parts of a written world as sources of a mixture.

    Args:
        shares: the parts to take and their weights; by default all, evenly.
    """
    shares = dict.fromkeys(PARTS[split], 1.0) if shares is None else shares
    return [
        SourceConfig(
            format=part.format,
            path=str(Path(folder) / part.file),
            root=str(_root(folder, name)),
            name=f"mini_{name}",
            weight=shares[name],
            frames=FramePolicy(aggregator=0) if name == "chat" else None,
            pointing=PointingPolicy(kinds=POINTING),
        )
        for name, part in PARTS[split].items()
        if name in shares
    ]


def _root(folder: Union[str, Path], part: str) -> Path:
    """Ref-YouTube-VOS names videos by their file alone; the other formats by their path."""
    return Path(folder) / VIDEOS if part in ("expressions", "look_alikes") else Path(folder)


def _dialogues(scene: Scene, rng: np.random.Generator) -> Iterator[Sample]:
    """Conversations, one description of every thing, and requests for what is not there."""
    for number in range(TALKS):
        turns = dialogues(scene.clip, rng)
        if scene.clip.split == "heldout":  # the benchmark asks every question by itself
            turns = [turn for turn in turns if turn.kind not in FOLLOW_UPS]
        if turns:
            yield scene.sample(f"talk{number}", [scene.grounded(turn) for turn in turns])
    describe = sama_239k.DESCRIBE[0] if scene.clip.split == "train" else sama_bench.DESCRIBE
    yield scene.sample(
        "describe",
        [
            Turn(describe.format(REGION_MARK), scene.description(index), (scene.region(index),))
            for index in range(len(scene.clip.things))
        ],
    )
    yield from _absences(scene, rng)


def _absences(scene: Scene, rng: np.random.Generator) -> Iterator[Sample]:
    for number, expression in enumerate(expressions(scene.clip, rng)):
        if expression.kind == "absent":
            yield scene.sample(f"absent{number}", [scene.expression(expression)])


def _regions(scene: Scene, rng: np.random.Generator) -> Iterator[Sample]:
    """Questions about regions, a few in a conversation, and one of multiple choice."""

    def region(index: int):
        return scene.region(index, POINT_STEP)

    asked = region_questions(scene.clip, rng)
    for start in range(0, len(asked), QUESTIONS):
        turns = [scene.asked(question, region) for question in asked[start : start + QUESTIONS]]
        yield scene.sample(f"regions{start // QUESTIONS}", turns)
    for choice in multiple_choice(scene.clip, rng)[:1]:
        yield scene.sample("choice", [choice.turn(region)])


def _expressions(scene: Scene, rng: np.random.Generator) -> Iterator[Sample]:
    """One turn an expression; what is absent has no place in this format."""
    found = [expression for expression in expressions(scene.clip, rng) if expression.things]
    if found:  # nameless things may all do the same
        yield scene.sample("expressions", [scene.expression(expression) for expression in found])


def _chat(scene: Scene, rng: np.random.Generator) -> Iterator[Sample]:
    yield scene.sample("chat", [plain(turn) for turn in chat_turns(scene.clip, rng, CHAT)])


def _descriptions(scene: Scene, rng: np.random.Generator) -> Iterator[Sample]:
    index = int(rng.integers(len(scene.clip.things)))
    turn = Turn(videorefer_bench.DESCRIBE, scene.description(index), (scene.region(index),))
    yield scene.sample("describe", [turn])


def _choices(scene: Scene, rng: np.random.Generator) -> Iterator[Sample]:
    for number, choice in enumerate(multiple_choice(scene.clip, rng)[:2]):
        yield scene.sample(f"choice{number}", [choice.turn(scene.region)], tags=(choice.type,))


_SAMPLES = {
    "dialogues": _dialogues,
    "regions": _regions,
    "expressions": _expressions,
    "chat": _chat,
    "descriptions": _descriptions,
    "choices": _choices,
    "look_alikes": look_alikes,
    "absences": absences,
}
_NAMELESS = {
    "dialogues": _absences,
    "regions": _regions,
    "expressions": _expressions,
    "absences": absences,
}
"""What is said of nameless things."""
