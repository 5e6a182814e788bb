"""What is hard to write: several objects, masks with holes, frames without them, any script.
What a format cannot hold is refused by name, not lost.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from sama_plugin.data.formats import (
    coco,
    expressions,
    internvl_meta,
    sama,
    sama_239k,
    sama_bench,
    videorefer_700k,
    videorefer_bench,
    youtube_vis,
)
from sama_plugin.dialog.sample import Media, Region, Sample, Target, Turn
from sama_plugin.errors import DataError
from sama_plugin.media import masks
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack

from .factories import FRAMES, HEIGHT, WIDTH, square


def holed(frame):
    mask = square(frame)
    mask[7:9, 5 + frame : 7 + frame] = False
    return mask


def noisy(frame):
    return np.random.default_rng(frame).random((HEIGHT, WIDTH)) > 0.5


def over_time(draw, hidden=()):
    drawn = {frame: masks.encode(draw(frame)) for frame in range(FRAMES)}
    rles = {frame: None if frame in hidden else rle for frame, rle in drawn.items()}
    return MaskTrack((HEIGHT, WIDTH), FRAMES, rles)


def still(draw):
    return MaskTrack((HEIGHT, WIDTH), 1, {0: masks.encode(draw(0))})


def pointed(track):
    return Region(tuple(RegionPrompt.from_mask(f, rle) for f, rle in track.rles.items() if rle))


BALL, CUP = over_time(holed, hidden=(0, 5, 11)), over_time(noisy)
ONCE = over_time(square, hidden=range(1, FRAMES))
GROUNDED = Turn(
    "Где «мяч» <region> 球？ 🙂" + sama_239k.SUFFIX,
    '<p> der süße Ball 🎾 </p> [SEG] zu <p> 杯子 </p> [SEG]; <p> A & <b> "x" </p> [SEG].',
    (pointed(BALL),),
    (Target("der süße Ball 🎾", BALL), Target("杯子", CUP), Target('A & <b> "x"', ONCE)),
)
PLAIN = Turn("и <region> <region>?", "да.\nещё", (pointed(CUP), pointed(ONCE)))
DESCRIBED = Turn(sama_239k.DESCRIBE[1].format("<region>"), "мяч", (pointed(BALL),))
CHOICE = Turn(
    f"Was tut <region>, z.B. 1.5? (A) Läuft. (B) 停. {videorefer_bench.LETTER_ONLY}",
    "B",
    (pointed(CUP),),
)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "mevis" / "клип 1"
    folder.mkdir(parents=True)
    for frame in range(FRAMES):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{frame:05d}.png")
    return tmp_path


def video(root, *turns, name="☂/1"):
    return Sample(name, Media("video", str(root / "mevis" / "клип 1")), turns)


def back(module, sample, root, file="a.json", **options):
    module.write([sample], root / file, root)
    read = module.read(root / file, root, **options)
    return [dataclasses.replace(one, source="") for one in read]


@pytest.mark.parametrize("module, file", [(sama, "a.jsonl"), (internvl_meta, "a.jsonl")])
def test_everything(root, module, file):
    sample = video(root, GROUNDED, PLAIN)
    assert back(module, sample, root, file) == [sample]


def test_sama_239k(root):
    again = dataclasses.replace(DESCRIBED, assistant="тот же мяч")
    sample = video(root, GROUNDED, PLAIN, DESCRIBED, again)
    chat, described = back(sama_239k, sample, root)
    assert chat == video(root, GROUNDED, PLAIN, again, name="☂/1#c0")
    assert [turn.assistant for turn in described.turns] == ["мяч"]


def test_sama_bench(root):
    found = back(sama_bench, video(root, GROUNDED, PLAIN), root, "mevis.json")
    assert [(one.id, one.turns) for one in found] == [("☂/1_0", (GROUNDED,)), ("☂/1_1", (PLAIN,))]


def test_videorefer(root):
    sample = video(root, PLAIN)
    assert back(videorefer_700k, sample, root) == [sample]
    choice = dataclasses.replace(video(root, CHOICE, name="0"), tags=("Basic",))
    assert back(videorefer_bench, choice, root, mode="multi") == [choice]


@pytest.mark.parametrize("word", ["<image>", "<video>"])
def test_videorefer_refuses_its_own_marks_as_words(root, word):
    typed = dataclasses.replace(PLAIN, user=f"what is {word} <region> <region>")
    with pytest.raises(DataError, match="cannot hold"):
        videorefer_700k.write([video(root, typed)], root / "a.json", root)
    assert not (root / "a.json").exists()


def test_instances(root):
    turns = (expressions.instances("мяч", [BALL, CUP]), expressions.instances("杯子", [ONCE]))
    sample = video(root, *turns, name="1")
    assert back(youtube_vis, sample, root) == [sample]
    image = Media("image", str(root / "mevis" / "клип 1" / "00000.png"))
    turns = (
        expressions.instances("мяч 🎾", [still(holed), still(square)]),
        expressions.instances('a "cup" <p>', [still(noisy)]),
    )
    assert back(coco, Sample("1#0", image, turns), root) == [Sample("1#0", image, turns)]
