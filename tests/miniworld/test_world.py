"""Clips: one seed one clip, splits that share nothing, and events that happen in the pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sama_plugin.errors import SamaError
from sama_plugin.miniworld.motion import AWAY, trajectories, trajectory
from sama_plugin.miniworld.render import render
from sama_plugin.miniworld.reserved import RESERVED, is_reserved
from sama_plugin.miniworld.shapes import silhouettes
from sama_plugin.miniworld.things import (
    CHANGES,
    COLOURS,
    FRAMES,
    HIDES,
    LEAVES,
    MOTIONS,
    MOVES,
    SHAPES,
    SIZE,
    Clip,
)
from sama_plugin.miniworld.world import sample_clip

SEEDS = range(40)


@pytest.fixture(scope="module")
def rendered():
    """(clip, frames, visible) of clips of both splits."""
    clips = [sample_clip(seed, split) for seed in SEEDS for split in ("train", "heldout")]
    return [(clip, *render(clip)) for clip in clips]


def test_a_seed_is_a_clip():
    for split in ("train", "heldout"):
        first, second = sample_clip(7, split), sample_clip(7, split)
        assert first == second
        for one, two in zip(render(first), render(second)):
            assert one.dtype == np.uint8
            assert np.array_equal(one, two)
    assert sample_clip(7, "train").things != sample_clip(7, "heldout").things
    assert sample_clip(8, "train").things != sample_clip(7, "train").things


@pytest.mark.parametrize("seed, split", [(0, "test"), (-1, "train")])
def test_unknown_clips_are_refused(seed, split):
    with pytest.raises(SamaError, match="heldout"):
        sample_clip(seed, split)


def test_json_gives_the_clip_back(rendered):
    for clip, _, _ in rendered:
        assert Clip.from_json(json.loads(json.dumps(clip.to_json()))) == clip


def test_an_eighth_of_the_compositions_is_reserved_and_no_look_or_motion_is_lost():
    assert len(RESERVED) == len(COLOURS) + len(SHAPES)
    for look in (*COLOURS, *SHAPES):
        assert sum(look == reserved for reserved, _ in RESERVED) == 1
    seen = {motion for _, motion in RESERVED}
    assert seen == set(MOTIONS)


def test_splits_share_no_composition(rendered):
    for clip, _, _ in rendered:
        assert any(map(is_reserved, clip.things)) == (clip.split == "heldout")


def test_counts_and_look_alikes():
    clips = [sample_clip(seed, "train") for seed in range(300)]
    counts = [len(clip.things) for clip in clips]
    assert min(counts) == 2
    assert max(counts) == 5
    assert 3.0 < np.mean(counts) < 3.8
    assert 0.38 < np.mean([bool(clip.look_alikes) for clip in clips]) < 0.52


def test_only_look_alikes_share_colour_and_shape_and_their_doings_differ(rendered):
    for clip, _, _ in rendered:
        assert len(clip.look_alikes) <= 1
        for first, second in clip.look_alikes:
            one, two = clip.things[first], clip.things[second]
            assert one.texture == two.texture
            doings = [(thing.motion, clip.histories(i)) for i, thing in enumerate(clip.things)]
            assert doings[first] != doings[second]


def test_everything_is_seen_whole_at_both_ends_and_clear_of_the_rest_otherwise(rendered):
    for clip, _, visible in rendered:
        ways = trajectories(clip)
        for index, thing in enumerate(clip.things):
            alone = silhouettes(thing, ways[:, index])
            seen = (visible == index + 1) & alone
            share = seen.sum((1, 2)) / alone.sum((1, 2)).clip(1)
            assert min(share[0], share[-1]) > 0.75, (clip.name, index)
            crossed = any(index in pair for pair in clip.passes)
            if thing.history not in (HIDES, LEAVES) and not crossed:
                assert share.min() > 0.75, (clip.name, index)


def test_the_visible_map_is_the_nearest_silhouette(rendered):
    for clip, _, visible in rendered:
        ways = trajectories(clip)
        expected = np.zeros_like(visible)
        order = sorted(range(len(clip.things)), key=lambda i: clip.things[i].depth)
        wall = clip.wall
        for index in order:
            thing = clip.things[index]
            alone = silhouettes(thing, ways[:, index])
            if wall is not None and thing.depth < 0:
                alone[:, wall.y0 : wall.y1, wall.x0 : wall.x1] = False
            expected[alone] = index + 1
        assert (expected != visible).mean() < 2e-4


def test_motions_are_large_enough_for_four_frames(rendered):
    for clip, _, _ in rendered:
        for thing in clip.things:
            way = trajectory(thing)
            assert way.shape == (FRAMES, 2)
            looked_at = way[[2, 6, 10, 14]]
            apart = np.hypot(*(looked_at - looked_at[0]).T)
            if thing.motion in MOVES:
                assert apart[-1] >= 35
                axis, sign = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}[
                    thing.motion.split()[1]
                ]
                assert (sign * np.diff(way[:, axis]) >= 0).all()
            elif thing.motion == "turns around":
                assert apart[1] >= 20
                assert apart[-1] < 1
                assert np.hypot(*(way - way[0]).T).max() >= 30
            elif thing.motion == "circles":
                assert thing.distance >= 16
                assert apart[1:3].min() > 20
                assert apart[-1] < 1
            elif thing.motion == "stays still":
                assert apart.max() == 0


def test_hiders_and_leavers_are_gone_for_a_while_and_come_back(rendered):
    found = set()
    for clip, _, visible in rendered:
        for index, thing in enumerate(clip.things):
            if thing.history not in (HIDES, LEAVES):
                continue
            found.add(thing.history)
            seen = (visible == index + 1).any((1, 2))
            gone = np.flatnonzero(~seen)
            assert len(gone) >= 3
            assert set(AWAY) <= set(gone)
            assert seen[0] and seen[-1]
            assert (np.diff(gone) == 1).all()
            if thing.history == LEAVES:
                x, y = trajectory(thing)[8]
                assert not (0 <= x < SIZE and 0 <= y < SIZE)
    assert found == {HIDES, LEAVES}


def test_crossings_overlap_with_the_right_one_in_front(rendered):
    crossings = 0
    for clip, _, visible in rendered:
        for behind, front in clip.passes:
            crossings += 1
            ways = trajectories(clip)
            far = silhouettes(clip.things[behind], ways[:, behind])
            near = silhouettes(clip.things[front], ways[:, front])
            both = far & near
            share = both.sum((1, 2)) / far.sum((1, 2))
            assert (share > 0.2).sum() >= 2
            assert max(share[list(AWAY)]) > 0.2
            assert (visible[both] == front + 1).mean() > 0.97
            assert share[0] < 0.1 and share[-1] < 0.1
    assert crossings > 5


def test_a_changed_colour_is_in_the_pixels(rendered):
    changed = 0
    for clip, frames, visible in rendered:
        for index, thing in enumerate(clip.things):
            if thing.history != CHANGES:
                continue
            changed += 1
            for frame, colour in ((2, thing.colour), (6, thing.colour), (10, thing.colour_after)):
                pixels = frames[frame][visible[frame] == index + 1].astype(float)
                brightest = pixels[pixels.sum(1) >= np.quantile(pixels.sum(1), 0.7)].mean(0)
                distance = {
                    name: np.abs(brightest - value).sum() for name, value in COLOURS.items()
                }
                assert min(distance, key=distance.get) == colour
    assert changed > 5
