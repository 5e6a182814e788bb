"""Bad input ends in one clear error and loses nothing: the table of promises, on real files.

Every row says what is wrong, which error it is and what the message names. After each the
conversation, the host and the output folder are as they were before.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from sama_plugin import cli
from sama_plugin.dialog.sample import Media, Region, Sample, Turn
from sama_plugin.errors import (
    CheckpointError,
    DataError,
    MediaError,
    OutputError,
    RegionError,
    SlotError,
)
from sama_plugin.infer.folder import write_conversation
from sama_plugin.infer.session import VideoSession
from sama_plugin.media.frames import FramePolicy
from sama_plugin.media.masks import read_png
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.video import open_video
from sama_plugin.miniworld.host import TINY, build_host, tiny_host
from sama_plugin.model.adapters import add_lora
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import load_adapter, save_adapter
from sama_plugin.model.config import LoraSettings
from sama_plugin.model.generate import generate
from sama_plugin.train.run import train
from sama_plugin.viz.write import write_video
from tests.data.factories import text_sample
from tests.model.conftest import tiny_config
from tests.train.factories import tiny_run, write_data

FEW = FramePolicy(aggregator=2, llm=1, prompted=1)
CLIP = "frames/ref_youtube_vos/train/JPEGImages/bedroom01"


def shortened(source, target, share):
    """The first part of a file."""
    data = source.read_bytes()
    target.write_bytes(data[: int(share * len(data))])
    return target


def damaged(kind, data, folder):
    """A source that cannot be read."""
    video, image = data / "videos/bedroom.mp4", data / "images/truck.jpg"
    if kind == "missing":
        return folder / "nowhere.mp4"
    if kind == "empty":
        (folder / "empty.mp4").touch()
        return folder / "empty.mp4"
    if kind.startswith("truncated at"):
        return shortened(video, folder / "truncated.mp4", float(kind.split()[-1]))
    if kind == "not a video":
        return shutil.copy(data / "README.md", folder / "notes.mp4")
    if kind == "truncated image":
        return shortened(image, folder / "half.jpg", 0.5)
    if kind == "no frames in the folder":
        (folder / "frames").mkdir()
        shutil.copy(data / "README.md", folder / "frames/README.md")
        return folder / "frames"
    assert kind == "zero frames"
    np.save(folder / "none.npy", np.zeros((0, 8, 8, 3), np.uint8))
    return folder / "none.npy"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "nowhere.mp4"),
        ("empty", "empty.mp4 is empty"),
        ("truncated at 0.01", "truncated.mp4"),
        ("truncated at 0.5", "truncated.mp4"),
        ("truncated at 0.999", "truncated.mp4"),
        ("not a video", "notes.mp4"),
        ("truncated image", "half.jpg"),
        ("no frames in the folder", "frames has no frames"),
        ("zero frames", "none: the clip is empty"),
    ],
)
def test_unreadable_source(sama, sama_data, tmp_path, capsys, kind, words):
    path = damaged(kind, sama_data, tmp_path)
    with pytest.raises(MediaError, match=words):
        VideoSession(sama, path)
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "out"
    code = cli.main(["chat", "--video", str(path), "--ask", "what is it?", "--out", str(out)])
    said = capsys.readouterr().err
    assert code == 2 and words in said and said.count("\n") == 1
    assert [one for one in sorted(tmp_path.rglob("*")) if one != out] == before


@pytest.fixture(scope="module")
def opened(sama_data):
    """Masks of the clip that all bad questions are about."""
    skirt = sorted((sama_data / "masks_png/bedroom01/blue_skirt").glob("*.png"))
    cups = sorted((sama_data / "masks_png/cups_shuffle/red_cups").glob("*.png"))
    ball = sorted((sama_data / "masks_png/cups_shuffle/yellow_ball").glob("*.png"))
    absent = next(path for path in ball if not read_png(path).any())
    return {
        "skirt": read_png(skirt[0]) > 0,
        "of another clip": read_png(cups[0]) > 0,
        "all black": np.zeros_like(read_png(skirt[0]), dtype=bool),
        "all black of another clip": read_png(absent) > 0,
    }


@pytest.fixture
def session(sama, sama_data, opened):
    """A conversation about 40 real frames of 960 x 540 in which "skirt" is named."""
    with VideoSession(sama, sama_data / CLIP, frames=FEW) as session:
        session.region("skirt", frame=0, mask=opened["skirt"])
        session.ask("what is @skirt ?", masks=False)
        yield session


@pytest.mark.parametrize(
    ("name", "where", "error", "words"),
    [
        ("x", {"frame": 40, "box": (1, 1, 9, 9)}, RegionError, "frame 40, the clip has 40"),
        ("x", {"frame": -1, "box": (1, 1, 9, 9)}, RegionError, "frame -1, the clip has 40"),
        ("x", {"time": 77.5, "box": (1, 1, 9, 9)}, MediaError, "77.5 s is outside bedroom01"),
        ("x", {"frame": 0, "box": (900, 500, 961, 541)}, RegionError, "leaves the frame"),
        ("x", {"frame": 0, "box": (2000, 0, 2010, 9)}, RegionError, "no part of it is inside"),
        ("x", {"frame": 0, "box": (9, 9, 9, 20)}, RegionError, "has no area"),
        ("x", {"frame": 0, "box": (float("nan"), 9, 9, 20)}, RegionError, "box on frame 0"),
        ("x", {"frame": 0, "points": [(960, 10)]}, RegionError, "outside"),
        ("x", {"frame": 0, "mask": "all black"}, RegionError, "is empty"),
        ("x", {"frame": 0, "mask": "of another clip"}, RegionError, "640 x 360 pixels, the fr"),
        ("x", {"frame": 0, "mask": "all black of another clip"}, RegionError, "640 x 360"),
        ("skirt", {"frame": 0, "box": (1, 1, 9, 9)}, RegionError, "'skirt' is named twice"),
    ],
)
def test_unusable_region(session, opened, name, where, error, words):
    if isinstance(where.get("mask"), str):
        where = {**where, "mask": opened[where["mask"]]}
    check_unchanged(session, lambda: session.region(name, **where), error, words)


@pytest.mark.parametrize(
    ("question", "error", "words"),
    [
        ("what is @skrit ?", RegionError, "@skrit, which is not named .did you mean 'skirt'"),
        ("what is @1.7 ?", RegionError, "@1.7, which is not named"),
        ("what is <region> ?", RegionError, "<region>"),
        ("what is <|region|> ?", RegionError, "<|region|>"),
        ("what is <|context|> ?", RegionError, "<|context|>"),
    ],
)
def test_unanswerable_question(session, question, error, words):
    words = words.replace("|", r"\|")
    check_unchanged(session, lambda: session.ask(question), error, words)


def test_more_regions_than_slots(session, sama):
    """Refused in a record before anything is read, and in a sequence that lost a placeholder."""
    region = session.regions["skirt"]
    turn = Turn("what is <region>?", "a skirt.", regions=(region, region))
    with pytest.raises(DataError, match="record two: .*region"):
        Sample("two", Media("video", "clip.mp4"), (turn,)).validate()
    (asked,) = session.turns
    cut = [token for token in asked.prompt_ids if token != sama.ids.region]
    batch = session._visual.batch([asked], first=True)

    def read():
        generate(sama, cut, batch, cache=session._visual.cache)

    check_unchanged(session, read, SlotError, "0 region placeholders .*bedroom01.* 2 vectors")
    assert sama.taps.call is None


def check_unchanged(session, act, error, words) -> None:
    """`act` raises, and the conversation goes on as if nothing had been said."""
    regions, ids, cached = dict(session.regions), session.ids, session.cached_tokens
    with pytest.raises(error, match=words):
        act()
    assert (session.regions, session.ids) == (regions, ids)
    assert len(session.turns) == len(session.answers) == 1
    assert session.cached_tokens == cached
    assert session.ask("and now?", masks=False, max_new_tokens=1).ids


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A checkpoint of the tiny host with LoRA."""
    sama = attach(*tiny_host(seed=0), tiny_config())
    add_lora(sama, sama.config.lora)
    return save_adapter(sama, tmp_path_factory.mktemp("run") / "sama_adapter")


def edited(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def wide_host():
    import dataclasses

    return build_host(dataclasses.replace(TINY, width=64))


CHECKPOINTS = {
    "another width": ({}, wide_host, "width 48; this host has 64"),
    "another family": ({"family": "llama"}, tiny_host, "family 'llama'; this host has 'qwen2'"),
    "other tokens": ({"tokens": ["[SEG]"]}, tiny_host, "tokens .'.SEG.'"),
    "another format": ({"format": 99}, tiny_host, "format 99"),
    "another segmenter": ({"segmenter": "sam9"}, tiny_host, "segmenter 'sam9'"),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoint_that_does_not_fit(adapter, tmp_path, kind):
    changes, host, words = CHECKPOINTS[kind]
    folder = tmp_path / "sama_adapter"
    shutil.copytree(adapter, folder)
    edited(folder, **changes)
    check_refused(attach(*host(), tiny_config()), folder, words)


def test_checkpoint_of_another_rank_than_the_lora_that_is_there(adapter):
    sama = attach(*tiny_host(), tiny_config())
    add_lora(sama, LoraSettings(r=3))
    check_refused(sama, adapter, "wrapped with")


@pytest.mark.parametrize("file", ["config.json", "modules.safetensors", "lora.safetensors"])
@pytest.mark.parametrize("share", [None, 0.5])
def test_checkpoint_that_is_damaged(adapter, tmp_path, file, share):
    folder = tmp_path / "sama_adapter"
    shutil.copytree(adapter, folder)
    (folder / file).unlink()
    if share is not None:
        shortened(adapter / file, folder / file, share)
    check_refused(attach(*tiny_host(seed=0), tiny_config()), folder, file)


def check_refused(sama, folder, words) -> None:
    """The checkpoint is refused; host and plugin are as they were."""
    before = {name: tensor.clone() for name, tensor in sama.host.state_dict().items()}
    with pytest.raises(CheckpointError, match=words):
        load_adapter(sama, folder)
    after = sama.host.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_unwritable_output_folder(session, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file/out"
    clip = np.zeros((2, 8, 8, 3), np.uint8)
    np.save(tmp_path / "clip.npy", clip)
    data = write_data(tmp_path / "data", [text_sample()])
    for act in (
        lambda: write_conversation(session, out),
        lambda: session.save(out / "talk.json"),
        lambda: write_video(out / "clip.mp4", clip, 8),
        lambda: train(tiny_run(data, out)),
    ):
        with pytest.raises(OutputError, match="cannot write to .*file"):
            act()
    flags = ["--video", str(tmp_path / "clip.npy"), "--ask", "x", "--out", str(out)]
    assert cli.main(["chat", *flags]) == 2
    assert "cannot write to" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "in the way"


def test_interruption_while_a_video_is_written(sama_data, tmp_path):
    path = tmp_path / "overlay.mp4"
    with open_video(sama_data / "frames/sav_train/sav_000/sav_900001.mp4") as reader:
        write_video(path, reader.frames(range(3)), reader.fps)
        before = path.read_bytes()

        def frames():
            yield from reader.frames(range(20))
            raise KeyboardInterrupt

        for target in (path, tmp_path / "new.mp4", tmp_path / "new.gif"):
            with pytest.raises(KeyboardInterrupt):
                write_video(target, frames(), reader.fps)
    assert [one.name for one in tmp_path.iterdir()] == ["overlay.mp4"]
    assert path.read_bytes() == before


def test_interruption_in_the_middle_of_training(tmp_path):
    from transformers import TrainerCallback

    class Interrupt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                raise KeyboardInterrupt

    out = tmp_path / "out"
    config = tiny_run(write_data(tmp_path / "data", [text_sample()]), out, steps=3, save_every=1)
    with pytest.raises(KeyboardInterrupt):
        train(config, callbacks=[Interrupt()])
    left = {path.name for path in out.iterdir()}
    assert left == {"checkpoint-1", "train.yaml"}, "no adapter under its final name, no stage"
    assert train(config, resume=True).steps == 3
    assert (out / "sama_adapter/config.json").is_file()


def test_prompts_of_a_region_are_checked_before_any_is_kept(session):
    prompts = (RegionPrompt.from_box(0, (1, 1, 9, 9)), RegionPrompt.from_box(99, (1, 1, 9, 9)))
    act = lambda: session.region("two", prompts=prompts)  # noqa: E731
    check_unchanged(session, act, RegionError, "frame 99, the clip has 40")
    assert isinstance(session.regions["skirt"], Region)
