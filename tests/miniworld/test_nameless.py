"""Nameless things: the same clips without looks, of which only what they do can be said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sama_plugin.errors import SamaError
from sama_plugin.miniworld.aggregator_questions import UNKNOWN, facts, questions
from sama_plugin.miniworld.expressions import expressions
from sama_plugin.miniworld.nameless import nameless
from sama_plugin.miniworld.options import multiple_choice
from sama_plugin.miniworld.regions import region_questions
from sama_plugin.miniworld.render import render
from sama_plugin.miniworld.reserved import RESERVED
from sama_plugin.miniworld.things import COLOURS, NAMELESS_COLOURS, NAMELESS_SHAPES, SHAPES
from sama_plugin.miniworld.world import sample_clip
from sama_plugin.miniworld.write import NAMELESS_STEP, write_world
from tests.miniworld.test_language import does

CLIPS = [sample_clip(seed, "train") for seed in range(40)]


def test_only_looks_change_and_who_looked_alike_still_does():
    for clip in CLIPS:
        other = nameless(clip)
        assert other == nameless(clip)
        assert set(clip.look_alikes) <= set(other.look_alikes)
        assert other.nameless and not clip.nameless and other.name != clip.name
        for index, (one, two) in enumerate(zip(clip.things, other.things)):
            looks = {"colour": one.colour, "shape": one.shape, "colour_after": one.colour_after}
            assert replace(two, **looks) == one
            assert clip.histories(index) == other.histories(index)
            assert two.colour in NAMELESS_COLOURS and two.shape in NAMELESS_SHAPES
            assert (two.colour_after is None) == (one.colour_after is None)
            assert two.colour_after != two.colour


def test_no_reserved_look_is_ever_painted():
    assert not {look for look, _ in RESERVED} & {*NAMELESS_COLOURS, *NAMELESS_SHAPES}
    named = [np.array(paint) for paint in COLOURS.values()]
    for paint in NAMELESS_COLOURS.values():
        assert min(np.linalg.norm(paint - other) for other in named) > 55


def test_held_out_clips_keep_their_names():
    with pytest.raises(SamaError, match="heldout-000001.*only training clips"):
        nameless(sample_clip(1, "heldout"))


def test_pictures_show_every_thing_where_it_was():
    for clip in CLIPS[:6]:
        _, before = render(clip)
        _, after = render(nameless(clip))
        for index in range(1, len(clip.things) + 1):
            both = ((before == index) & (after == index)).sum()
            assert both > 0.25 * (before == index).sum()


def test_an_expression_says_what_a_thing_does_and_no_other_does_it():
    kinds = set()
    for clip in map(nameless, CLIPS):
        for one in expressions(clip, np.random.default_rng(clip.seed)):
            kinds.add(one.kind)
            if one.kind == "absent":
                continue
            words = one.text[len("the thing that ") :]
            assert one.text.startswith("the thing that ")
            fits = [index for index in range(len(clip.things)) if does(clip, index, words)]
            assert tuple(fits) == one.things
    assert kinds == {"motion", "history", "absent"}


def test_answers_never_say_how_a_thing_looks():
    looks = {*NAMELESS_COLOURS, *NAMELESS_SHAPES, *COLOURS, *SHAPES}
    for clip in map(nameless, CLIPS):
        rng = np.random.default_rng(clip.seed)
        said = [asked.answer for asked in region_questions(clip, rng)]
        said += [text for choice in multiple_choice(clip, rng) for text in choice.options]
        assert len(said) >= len(clip.things)
        assert not looks & {word.strip(".") for text in said for word in text.split()}


def test_the_aggregator_is_asked_about_nameless_things_but_not_how_they_look():
    kinds = set()
    for clip in map(nameless, CLIPS):
        for asked in questions(clip, np.random.default_rng(clip.seed), 8):
            found, _ = facts(clip, asked.meant)
            assert found["colour"] == found["shape"] == UNKNOWN
            assert (found["motion"] == UNKNOWN) == (len(asked.meant) != 1)
            kinds.add(asked.kind)
    assert {"pointed", "motion", "history", "absent"} <= kinds


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_a_world_has_some_and_only_for_training(tmp_path, split):
    clips = 2 * NAMELESS_STEP + 1
    write_world(tmp_path, split, clips, seed=0)
    found = sorted(path.stem for path in (tmp_path / "videos/mevis").glob("*-nameless.npy"))
    wanted = [f"train-{seed:06d}-nameless" for seed in range(0, clips, NAMELESS_STEP)]
    assert found == (wanted if split == "train" else [])
    for file in ("videorefer_700k.json", "meta_expressions.json") if found else ():
        text = (tmp_path / file).read_text()
        assert all(name in text for name in found), file
    assert "nameless" not in (tmp_path / "chat.jsonl").read_text()
