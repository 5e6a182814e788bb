"""Order and coverage: exact counts, the same everywhere, grounded samples spread over the epoch."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader

from sama_plugin.data.formats import sama
from sama_plugin.data.mixture import MixtureDataset
from sama_plugin.data.pointing import PointingPolicy, point
from sama_plugin.data.quarantine import TolerantCollator
from sama_plugin.data.report import Quarantine
from sama_plugin.data.sources import Source, SourceConfig, open_source
from sama_plugin.data.wording import rephrase
from sama_plugin.dialog.sample import Media, Sample, Target, Turn
from sama_plugin.errors import ConfigError, DataError
from sama_plugin.media import masks
from sama_plugin.media.frames import FramePolicy
from tests.data.factories import (
    FRAMES,
    grounded_sample,
    plain_sample,
    region,
    square,
    write_clip,
)
from tests.data.test_collate import collator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    clip = write_clip(folder / "clip.npy")
    wide = region(*range(FRAMES))
    grounded = [grounded_sample(clip, f"g{i}", region=wide) for i in range(10)]
    plain = [plain_sample(clip, f"p{i}") for i in range(30)]
    sama.write(grounded, folder / "grounded.jsonl", folder)
    sama.write(plain, folder / "plain.jsonl", folder)
    sama.write(grounded[:5] + plain[:5], folder / "both.jsonl", folder)
    return folder


def mixture(folder, samples=None, seed=0, **changes):
    sources = []
    for name in ("grounded", "plain"):
        settings = {
            "format": "sama",
            "path": str(folder / f"{name}.jsonl"),
            **changes.get(name, {}),
        }
        sources.append(open_source(SourceConfig(**settings)))
    return MixtureDataset(sources, seed, samples)


def ids(dataset, start, stop):
    return [dataset[number][0].id for number in range(start, stop)]


@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_every_sample_as_often_as_the_mixture_says(folder, repeat):
    dataset = mixture(folder, grounded={"repeat": repeat})
    assert len(dataset) == 10 * repeat + 30
    for epoch in range(2):
        counts = Counter(ids(dataset, epoch * len(dataset), (epoch + 1) * len(dataset)))
        assert all(counts[f"g{i}"] == repeat for i in range(10))
        assert all(counts[f"p{i}"] == 1 for i in range(30))


def test_fractions_come_out_even_over_epochs(folder):
    dataset = mixture(folder, grounded={"repeat": 0.5}, plain={"repeat": 1.5})
    assert len(dataset) == 5 + 45
    counts = Counter(ids(dataset, 0, 2 * len(dataset)))
    assert {counts[f"g{i}"] for i in range(10)} == {1}
    assert {counts[f"p{i}"] for i in range(30)} == {3}


def test_weights_share_an_epoch(folder):
    dataset = mixture(folder, samples=40, grounded={"weight": 3}, plain={"weight": 1})
    counts = Counter(name[0] for name in ids(dataset, 0, 40))
    assert counts == {"g": 30, "p": 10}
    assert {Counter(ids(dataset, 0, 40))[f"g{i}"] for i in range(10)} == {3}


def test_limits_take_the_first(folder):
    dataset = mixture(folder, plain={"limit": 4})
    assert sorted(n for n in ids(dataset, 0, len(dataset)) if n[0] == "p") == [
        "p0",
        "p1",
        "p2",
        "p3",
    ]


def test_epochs_and_seeds_differ_and_repeat(folder):
    dataset, size = mixture(folder), 40
    assert ids(dataset, 0, size) == ids(mixture(folder), 0, size)
    assert ids(dataset, 0, size) != ids(dataset, size, 2 * size)
    assert ids(dataset, 0, size) != ids(mixture(folder, seed=1), 0, size)


def test_every_window_holds_its_share_of_grounded_samples(folder):
    dataset = mixture(folder)
    for epoch in range(5):
        start = epoch * len(dataset)
        flags = [dataset.is_grounded(number) for number in range(start, start + len(dataset))]
        windows = np.array(flags).reshape(-1, 8).sum(1)
        assert windows.sum() == 10
        assert windows.min() >= 1 and windows.max() <= 3, "two of eight, give or take one"


def test_groups_are_told_apart_within_one_source(folder):
    source = open_source(SourceConfig("sama", str(folder / "both.jsonl")))
    dataset = MixtureDataset([source])
    flags = [dataset.is_grounded(number) for number in range(10)]
    assert [bool(dataset[number][0].targets) for number in range(10)] == flags
    assert all(sum(flags[i : i + 2]) == 1 for i in range(0, 10, 2)), "five pairs of both kinds"


def _item(item):
    return item.sample.to_json(), item.frames, item.source


def test_workers_and_pickling_change_nothing(folder):
    dataset = mixture(folder, plain={"frames": FramePolicy(aggregator=0)})
    numbers = list(range(15, 75))
    expected = [_item(dataset[number]) for number in numbers]
    for workers in (0, 2):
        loader = DataLoader(
            dataset, batch_size=None, sampler=numbers, num_workers=workers, collate_fn=_item
        )
        assert list(loader) == expected
    copy = pickle.loads(pickle.dumps(dataset))
    assert [_item(copy[number]) for number in numbers] == expected


def test_an_empty_mixture_is_refused(folder):
    with pytest.raises(ConfigError, match="empty"):
        mixture(folder, grounded={"repeat": 0}, plain={"repeat": 0})
    with pytest.raises(ConfigError, match="negative"):
        SourceConfig("sama", "x", repeat=-1)


def test_a_source_without_samples_is_refused(folder, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="no usable sample"):
        open_source(SourceConfig("sama", str(tmp_path / "empty.jsonl")))
    lost = Quarantine()
    lost.drop(DataError("no clip", file="bad.jsonl"))
    with pytest.raises(DataError, match="no usable sample .*first: bad.jsonl: no clip"):
        Source(SourceConfig("sama", "bad.jsonl"), [], lost)
    with pytest.raises(DataError, match="cannot read"):
        open_source(SourceConfig("sama", str(tmp_path / "none.jsonl")))


class TestPointing:
    def point(self, policy, seed=0):
        sample = grounded_sample("clip.npy", region=region(*range(FRAMES)))
        return point(sample, policy, np.random.default_rng(seed)).regions[0]

    @pytest.mark.parametrize(
        "policy,frames",
        [
            (PointingPolicy(0), tuple(range(FRAMES))),
            (PointingPolicy(99), tuple(range(FRAMES))),
            (PointingPolicy(2, "first"), (0, 1)),
            (PointingPolicy(3, "uniform"), (2, 6, 10)),
        ],
    )
    def test_frames(self, policy, frames):
        assert self.point(policy).frames == frames

    def test_random_frames_differ_with_the_generator(self):
        found = {self.point(PointingPolicy(1), seed).frames for seed in range(20)}
        assert len(found) > 5 and all(len(frames) == 1 for frames in found)

    @pytest.mark.parametrize("kind", ["box", "points", "scribble"])
    def test_kinds_lie_on_the_object(self, kind):
        for seed in range(10):
            (prompt,) = self.point(PointingPolicy(1, kinds=(kind,)), seed).prompts
            assert prompt.kind == kind
            prompt.validate(24, 32, FRAMES)
            mask = square(prompt.frame)
            covered = prompt.mask_array(24, 32) & mask
            assert covered.any()
            if kind == "box":
                assert masks.box_of(mask) == prompt.box

    def test_unknown_kinds_are_refused(self):
        with pytest.raises(ConfigError, match="lasso"):
            PointingPolicy(kinds=("lasso",))


def test_a_cap_takes_other_samples_every_epoch(folder):
    dataset = mixture(folder, plain={"cap": 6})
    assert len(dataset) == 10 + 6
    counts = Counter(ids(dataset, 0, 5 * len(dataset)))
    assert {counts[f"p{i}"] for i in range(30)} == {1} and {counts[f"g{i}"] for i in range(10)} == {
        5
    }
    assert len(mixture(folder, samples=40, plain={"cap": 6, "weight": 1})) == 20 + 6


class TestCoverage:
    """Whoever reads which items: together they are those of the epochs, each once."""

    @pytest.mark.parametrize("ranks", [1, 2, 3, 8])
    @pytest.mark.parametrize("batch", [1, 4])
    def test_ranks_resume_points_and_workers(self, folder, ranks, batch):
        dataset = mixture(folder, grounded={"repeat": 1.5}, plain={"cap": 21})
        size, epochs = len(dataset), 3
        straight = ids(dataset, 0, epochs * size)
        step = ranks * batch
        for stop in (0, 1, size // step // 2, size // step):
            again = pickle.loads(pickle.dumps(dataset))  # a new process
            read = self.read(dataset, 0, stop * step, ranks, batch)
            read.update(self.read(again, stop * step, epochs * size, ranks, batch))
            assert [read[number] for number in range(epochs * size)] == straight

    def read(self, dataset, start, end, ranks, batch):
        """Item to sample, as ranks deal out batches in turn."""
        read = {}
        for rank in range(ranks):
            for first in range(start + rank * batch, end, ranks * batch):
                for number in range(first, min(first + batch, end)):
                    assert number not in read
                    read[number] = dataset[number][0].id
        return read

    def test_every_source_is_drawn(self, folder):
        """Upstream's sampler draws from a shorter list than the repeats make: whole sets vanish."""
        for repeat in (1, 3, 7):
            dataset = mixture(folder, grounded={"repeat": repeat})
            counts = Counter(ids(dataset, 0, len(dataset)))
            assert len(counts) == 40 and sum(counts.values()) == len(dataset) == 10 * repeat + 30


def test_each_source_keeps_its_own_frames_and_questions(folder):
    """As they reach a batch: the plan that was decoded, and the words that were encoded."""
    target = Target("the ball", grounded_sample("x").targets[0].track)
    asked = Turn("Please segment the ball.", "[SEG]", targets=(target,))
    clip = str(folder / "clip.npy")
    sama.write([Sample("e", Media("video", clip), (asked,))], folder / "asked.jsonl", folder)
    settings = (
        {"ask": ("Cut out {}!",), "frames": FramePolicy(aggregator=6, llm=3, prompted=2)},
        {"frames": FramePolicy(aggregator=0, llm=1)},
    )
    config = {"format": "sama", "path": str(folder / "asked.jsonl")}
    dataset = MixtureDataset([open_source(SourceConfig(**config, **one)) for one in settings])
    collate = TolerantCollator(collator())
    own, other = (
        collate.prepare(item) for item in sorted(map(dataset.__getitem__, range(2)), key=asked_for)
    )
    assert own.sample.turns[0].user == "Cut out the ball!"
    assert other.sample.turns[0].user == "Please segment the ball."
    counts = [(len(one.clip.plan.aggregator), len(one.clip.plan.llm)) for one in (own, other)]
    assert counts == [(6, 3), (0, 1)]


def asked_for(item):
    return item.sample.turns[0].user


class TestWording:
    def asked(self, phrase, user, templates=("Cut out {}!",), regions=()):
        target = Target(phrase)
        sample = Sample("a", Media("none"), (Turn(user, "x [SEG]", tuple(regions), (target,)),))
        return rephrase(sample, templates, np.random.default_rng(0)).turns[0].user

    def test_only_expression_turns_change(self):
        assert self.asked("the cup", "Please segment the cup.") == "Cut out the cup!"
        assert self.asked("the cup", "what holds tea?") == "what holds tea?"
        assert self.asked("the cup", "<region> the cup", regions=[region(0)]) == "<region> the cup"
        assert self.asked("the cup", "Please segment the cup.", ()) == "Please segment the cup."

    @pytest.mark.parametrize("template", ["no place", "{} and {}", "{phrase}"])
    def test_bad_templates_are_refused(self, template):
        with pytest.raises(ConfigError, match="exactly one"):
            SourceConfig("sama", "x", ask=(template,))
