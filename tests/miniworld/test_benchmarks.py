"""Held-out cases: open questions with their true answers, balanced, and never about train clips."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sama_plugin.miniworld import expressions, regions
from sama_plugin.miniworld.benchmarks import CASES, PROMPTS
from sama_plugin.miniworld.scene import MIN_POINTED, SceneFolder

COUNT = 42


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    scenes = SceneFolder(tmp_path_factory.mktemp("bench"), "heldout")
    return {name: list(make(scenes, COUNT)) for name, make in CASES.items()}


def test_as_many_cases_as_wanted_each_an_open_question(cases):
    for name, made in cases.items():
        assert len(made) == COUNT, name
        assert len({case.sample.id for case in made}) == COUNT
        for case in made:
            sample, last = case.sample.validate(), case.sample.turns[-1]
            assert "heldout" in sample.media.source
            assert last.assistant is None and not last.targets
            assert (last.user, last.regions) == (case.reference.user, case.reference.regions)
            assert case.reference.assistant
            assert all(turn.assistant for turn in sample.turns[:-1])
            assert sample.tags == (case.kind,)


def test_kinds_are_balanced(cases):
    for name, kinds in (("mini_grounding", expressions.KINDS), ("mini_regions", regions.KINDS)):
        found = Counter(case.kind for case in cases[name])
        assert set(found) == set(kinds)
        assert max(found.values()) - min(found.values()) <= 1


def test_absent_things_have_no_masks_and_all_others_have(cases):
    for case in cases["mini_grounding"]:
        assert bool(case.reference.targets) == (case.kind != "absent")
        for target in case.reference.targets:
            assert target.track.frames() == tuple(range(16))
            assert target.track.area(0)


def test_regions_are_pointed_at_where_the_thing_is_seen(cases):
    found = Counter()
    for case in cases["mini_regions"]:
        found[case.prompt] += 1
        assert 0 < case.chance <= 0.5
        for region in case.reference.regions:
            (prompt,) = region.prompts
            assert prompt.kind == case.prompt
            prompt.validate(128, 128, 16)
            assert prompt.mask_array(128, 128).sum() >= (
                MIN_POINTED if prompt.kind == "mask" else 1
            )
    assert set(found) == set(PROMPTS)


def test_dialogue_cases_come_after_the_true_history(cases):
    by_clip: dict = {}
    for case in cases["mini_dialogues"]:
        by_clip.setdefault(case.sample.media.source, []).append(case)
    assert max(map(len, by_clip.values())) > 1
    for talk in by_clip.values():
        for number, case in enumerate(talk):
            assert len(case.sample.turns) == number + 1
            said = [before.reference for before in talk[:number]]
            assert list(case.sample.turns[:-1]) == said


def test_cases_are_the_same_every_time(cases, tmp_path):
    again = list(CASES["mini_regions"](SceneFolder(tmp_path, "heldout"), COUNT))
    for one, two in zip(cases["mini_regions"], again):
        assert one.sample.id == two.sample.id
        assert one.reference == two.reference
    masks = cases["mini_grounding"][0].reference.targets[0].track.tube(range(16))
    assert masks.dtype == np.bool_
