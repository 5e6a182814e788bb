"""Mini-world datasets: what is written in the real formats is read back as what was meant."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sama_plugin.data.formats import ref_youtube_vos, sama_239k, videorefer_bench
from sama_plugin.data.sources import open_source
from sama_plugin.dialog.sample import Turn
from sama_plugin.errors import ConfigError, DataError
from sama_plugin.media.video import open_video
from sama_plugin.miniworld.dialogues import dialogues
from sama_plugin.miniworld.options import LETTERS, multiple_choice
from sama_plugin.miniworld.render import render
from sama_plugin.miniworld.scene import SceneFolder
from sama_plugin.miniworld.world import sample_clip
from sama_plugin.miniworld.write import PARTS, sources, write_world

CLIPS = 4


@pytest.fixture(scope="module", params=["train", "heldout"])
def world(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return folder, request.param, write_world(folder, request.param, CLIPS, seed=30)


def test_every_part_is_read_without_a_complaint(world):
    folder, split, counts = world
    found = sources(folder, split)
    assert len(found) == len(PARTS[split]) == len(counts)
    for config in found:
        source = open_source(config)
        assert source.report.summary() == "none"
        assert len(source) >= (1 if config.name == "mini_look_alikes" else CLIPS)
        assert counts[config.name[len("mini_") :]] > 0


def test_parts_hold_what_they_are_for(world):
    folder, split, _ = world
    for config in sources(folder, split):
        samples = open_source(config)
        if config.name in ("mini_expressions", "mini_look_alikes"):
            assert samples.grounded.all()
        elif config.name != "mini_dialogues":
            assert not samples.grounded.any()
        regions = sum(len(sample.regions) for sample in samples)
        pointed = ("mini_dialogues", "mini_regions", "mini_descriptions", "mini_choices")
        assert (regions > 0) == (config.name in pointed)


def test_drills_tell_look_alikes_apart_and_ask_for_what_is_not_there(tmp_path):
    write_world(tmp_path, "train", 9)
    drills = {"look_alikes": 0.5, "absences": 2.0}
    alike, absent = sources(tmp_path, "train", drills)
    assert (alike.weight, absent.weight) == (0.5, 2.0)
    texts = [turn.assistant for sample in open_source(absent) for turn in sample.turns]
    assert texts and all(text.startswith("There is no ") for text in texts)
    clips = {clip.name: clip for clip in (sample_clip(seed, "train") for seed in range(9))}
    for sample in open_source(alike):
        clip = clips[Path(sample.media.sources[0]).stem]
        for turn in sample.turns:
            name = turn.user.split(" that ")[0].split("the ")[-1]
            assert sum(thing.name() == name for thing in clip.things) > 1


def test_frames_on_disk_are_the_rendered_ones(world):
    folder, split, _ = world
    clip = sample_clip(31, split)
    reader = open_video(folder / "videos/mevis" / f"{clip.name}.npy")
    frames, _ = render(clip)
    assert np.array_equal(reader.frames([0, 9, 3]), frames[[0, 9, 3]])


def test_ids_are_unique_and_writing_again_changes_nothing(world, tmp_path):
    folder, split, counts = world
    for config in sources(folder, split):
        names = [sample.id for sample in open_source(config)]
        assert len(set(names)) == len(names)
    assert write_world(tmp_path, split, CLIPS, seed=30) == counts
    for part in PARTS[split].values():
        assert (folder / part.file).read_text() == (tmp_path / part.file).read_text()


@pytest.mark.parametrize("frames", ["npy", "png", "mp4"])
def test_a_dialogue_survives_sama_239k(tmp_path, frames):
    if frames == "mp4":
        pytest.importorskip("sama_plugin.viz.write")
    scene = SceneFolder(tmp_path, "train", frames).scene(5)
    step = scene.media.frame_stride
    turns = []
    for seed in range(4):
        turns += dialogues(scene.clip, np.random.default_rng(seed))
    written = scene.sample("talk", [scene.grounded(turn) for turn in turns[:4]])
    question = sama_239k.DESCRIBE[0].format("<region>")
    described = scene.sample("describe", [Turn(question, scene.description(1), (scene.region(1),))])
    sama_239k.write([written, described], tmp_path / "sama.json", tmp_path)
    read, read_description = sama_239k.read(tmp_path / "sama.json", tmp_path)
    assert read_description.turns[0].assistant == scene.description(1)
    assert (
        read_description.turns[0].regions[0].prompts
        == described.turns[0].regions[0].prompts[::step]
    )
    assert read.media == written.media
    for before, after in zip(written.turns, read.turns):
        assert (after.user, after.assistant) == (before.user, before.assistant)
        assert len(after.regions) == len(before.regions)
        for one, two in zip(before.targets, after.targets):
            assert one.phrase == two.phrase
            annotated = range(0, 16, step)
            assert two.track.frames() == tuple(annotated)
            assert np.array_equal(one.track.tube(annotated), two.track.tube(annotated))


def test_equal_masks_are_one_annotation(tmp_path):
    scene = SceneFolder(tmp_path, "train").scene(5)
    turns = [scene.grounded(turn) for turn in dialogues(scene.clip, np.random.default_rng(0))]
    sama_239k.write([scene.sample(str(i), turns) for i in range(3)], tmp_path / "a.json", tmp_path)
    masks = json.loads((tmp_path / "mevis_mask_dict.json").read_text())
    assert 0 < len(masks) <= len(scene.clip.things)


def test_one_of_four_options_is_right():
    letters = []
    for seed in range(40):
        clip = sample_clip(seed, "heldout")
        for choice in multiple_choice(clip, np.random.default_rng(seed)):
            assert len(set(choice.options)) == len(LETTERS)
            letters.append(choice.letter)
            right = choice.options[LETTERS.index(choice.letter)]
            assert videorefer_bench.letter(right) == choice.letter
            assert right[len("(A) ") :] in choice.asked.answer
            others = [option for option in choice.options if option != right]
            assert not any(option[len("(A) ") :] in choice.asked.answer for option in others)
    share = np.unique(letters, return_counts=True)[1] / len(letters)
    assert share.min() > 0.15


def test_an_unknown_kind_of_frames_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="npy, png, jpg, mp4"):
        SceneFolder(tmp_path, "train", "avi")


def test_expressions_taken_out_of_a_counted_list_are_noticed(tmp_path):
    write_world(tmp_path, "train", 2, seed=30)
    path = tmp_path / "meta_expressions.json"
    config = next(one for one in sources(tmp_path, "train") if one.name == "mini_expressions")
    assert len(open_source(config))
    found = json.loads(path.read_text())
    first = next(iter(found["videos"].values()))["expressions"]
    first.pop(sorted(first)[0])
    path.write_text(json.dumps(found))
    with pytest.raises(DataError, match="running count.*wrong masks"):
        list(ref_youtube_vos.read(path, tmp_path / "videos/mevis"))
