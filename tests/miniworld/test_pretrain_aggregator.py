"""The aggregator's pre-training: learns, resumes where it says, and gives a file trainings take."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors import safe_open

from sama_plugin.data.questions import HostQuestions
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.dialog.wording import TextEncoder
from sama_plugin.miniworld import aggregator_clips
from sama_plugin.miniworld import pretrain_aggregator as pretraining
from sama_plugin.miniworld.aggregator_clips import FULL, SeenClips
from sama_plugin.miniworld.aggregator_questions import ODDS, facts, questions
from sama_plugin.miniworld.host import MINI, build_mini
from sama_plugin.miniworld.lesson import mini_config
from sama_plugin.miniworld.pretrain_segmenter import Stage
from sama_plugin.miniworld.things import HISTORIES, MOTIONS
from sama_plugin.miniworld.world import sample_clip
from sama_plugin.model.sama import SamaModules
from sama_plugin.model.start import start_from

CLIPS = 3


@pytest.fixture(scope="module")
def words():
    model, tokenizer = build_mini(0)
    return pretraining.Words(model, tokenizer, mini_config())


@pytest.fixture(scope="module")
def drawn_splits():
    return []


@pytest.fixture(scope="module")
def seen(tmp_path_factory, drawn_splits):
    patch = pytest.MonkeyPatch()
    known = aggregator_clips.clip_of

    def clip_of(split, index):
        drawn_splits.append(split)
        return known(split, index)

    patch.setattr(aggregator_clips, "clip_of", clip_of)
    yield SeenClips(tmp_path_factory.mktemp("clips"), mini_config(), 5, CLIPS).fill(_look)
    patch.undo()


def test_training_on_fixed_data_lowers_every_part_of_the_loss(seen, words, tmp_path):
    torch.manual_seed(0)
    learner = pretraining.Learner(mini_config(), words, len(seen.frames))
    lot = pretraining.draw(seen, words, np.random.default_rng(0), range(CLIPS), 8)

    def parts():
        reading = learner.read(lot, words.table)
        return learner.readout.loss(reading, lot.facts, lot.things)

    before = {name: part.item() for name, part in parts().items()}
    optimiser = torch.optim.AdamW(learner.groups(), lr=2e-3)
    for _ in range(12):
        optimiser.zero_grad()
        sum(parts().values()).backward()
        optimiser.step()
    after = {name: part.item() for name, part in parts().items()}
    assert all(after[name] < before[name] for name in before), (before, after)


def test_half_of_the_clips_may_be_nameless_and_a_batch_of_them_alone_is_learnt_from(
    seen, words, tmp_path
):
    half = SeenClips(tmp_path, mini_config(), 5, 4, half_nameless=True).fill(_look)
    assert [half.clip(index).nameless for index in range(4)] == [False, True, False, True]
    assert np.array_equal(half.tokens[2], seen.tokens[2])
    assert not np.array_equal(half.tokens[1], seen.tokens[1])
    learner = pretraining.Learner(mini_config(), words, len(half.frames))
    lot = pretraining.draw(half, words, np.random.default_rng(0), (1, 3), 8)
    assert not len(lot.things.frame) and (lot.facts.classes["colour"] < 0).all()
    parts = learner.readout.loss(learner.read(lot, words.table), lot.facts, lot.things)
    assert parts["spatial"] == 0 and all(torch.isfinite(part) for part in parts.values())
    sum(parts.values()).backward()
    gradients = [p.grad for p in learner.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)


def test_tokens_have_the_scale_of_the_hosts_embeddings(seen, words):
    learner = pretraining.Learner(mini_config(), words, len(seen.frames))
    lot = pretraining.draw(seen, words, np.random.default_rng(0), range(CLIPS), 2)
    tokens = learner.read(lot, words.table).tokens
    assert tokens.shape == (2 * CLIPS, len(seen.frames), MINI.width)
    torch.testing.assert_close(tokens.std(-1).mean().item(), words.scale, rtol=0.02, atol=0)
    assert not any(p.requires_grad for p in learner.sama.aggregator.output.parameters())


def test_the_file_starts_a_training_with_the_sizes_of_the_mini(words, tmp_path):
    torch.manual_seed(1)
    learner = pretraining.Learner(mini_config(), words, 8)
    path = tmp_path / "aggregator.safetensors"
    pretraining.export(learner.sama, path)
    assert path.stat().st_size <= 2_000_000
    grid = (MINI.grid, MINI.grid)
    fresh = SamaModules(mini_config(), MINI.width, grid, 4, None, words.scale)
    names = start_from(fresh, [path])
    assert {name.split(".")[0] for name in names} == {"aggregator", "region"}
    ours, theirs = fresh.state_dict(), learner.sama.state_dict()
    for name in names:
        assert torch.equal(ours[name], theirs[name].half().float()), name
    assert {name for name in ours if name.startswith("aggregator.")} <= set(names)


def test_the_packaged_file_starts_a_training(words):
    path = pretraining.asset(pretraining.ASSET)
    assert path.stat().st_size <= 2_000_000
    grid = (MINI.grid, MINI.grid)
    fresh = SamaModules(mini_config(), MINI.width, grid, 4, None, words.scale)
    assert len(start_from(fresh, [path])) > 50
    with safe_open(path, "pt") as file:
        gain = file.get_tensor("aggregator.output.weight").float()
    torch.testing.assert_close(gain.mean().item(), 0.1989, rtol=0.01, atol=0)  # packaged host's


def test_an_interrupted_run_equals_an_uninterrupted_one(seen, words, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "BATCH", 2)
    monkeypatch.setattr(pretraining, "PER_CLIP", 2)
    stage = Stage("tiny", steps=2, peak=1e-3, warmup=0, evaluate_every=9)

    def run(path, stops):
        for stop in stops:
            torch.manual_seed(3)
            learner = pretraining.Learner(mini_config(), words, len(seen.frames))
            short = dataclasses.replace(stage, steps=stop)
            short = _WithRateOf(short, stage)
            pretraining.train(learner, seen, words, short, path)
        return learner.sama.aggregator.state_dict()

    one, two = run(tmp_path / "a.pt", [2]), run(tmp_path / "b.pt", [1, 2])
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_only_the_training_split_is_drawn(seen, words, drawn_splits):
    pretraining.draw(seen, words, np.random.default_rng(0), range(CLIPS), 2)
    assert aggregator_clips.SPLIT == "train"
    assert len(drawn_splits) > CLIPS
    assert set(drawn_splits) == {"train"}


def test_filling_goes_on_where_it_stopped(seen):
    again = SeenClips(seen.folder.parent, mini_config(), 5, CLIPS)
    assert again.ready == CLIPS

    def never(frames):
        raise AssertionError("a clip was looked at twice")

    again.fill(never)
    assert np.array_equal(again.tokens, seen.tokens)


def test_pointings_and_cover_lie_on_the_thing(seen):
    for index in range(CLIPS):
        for thing in range(len(seen.clip(index).things)):
            for way in np.flatnonzero(seen.frame[index, thing] >= 0):
                frame = seen.frame[index, thing, way]
                on = seen.cover[index, thing, frame] > 0
                weights = seen.weights[index, thing, way].astype(float)
                assert weights[on].sum() > 0.5 * weights.sum() > 0  # boxes and lines reach over
        assert seen.cover[index].sum(0).max() <= FULL + 2


@pytest.mark.parametrize("seed", range(4))
def test_questions_mean_what_their_facts_say(seed, words):
    clip = sample_clip(seed, "train")
    for asked in questions(clip, np.random.default_rng(seed), 40):
        assert asked.kind in ODDS
        assert asked.text.count(REGION_MARK) == len(asked.pointed)
        found, history = facts(clip, asked.meant)
        assert found["count"] == min(len(asked.meant), 3)
        assert (asked.kind == "absent") == (not asked.meant)
        assert (asked.kind == "several") == (len(asked.meant) > 1)
        if len(asked.meant) == 1:
            thing = clip.things[asked.meant[0]]
            assert MOTIONS[found["motion"]] == thing.motion
            happened = {name for name, bit in zip(HISTORIES, history) if bit}
            assert happened == {name for name, _ in clip.histories(asked.meant[0])}
        ids, kinds = words.read(asked.text)
        assert len(ids) == len(kinds) <= mini_config().aggregator.max_question


def test_questions_are_read_as_a_lesson_reads_them(words):
    _, tokenizer = build_mini(0)
    text = f"What does {REGION_MARK} do?"
    question = HostQuestions(TextEncoder(tokenizer), 48).read(text)
    assert words.read(text) == (question.ids, question.kinds)


class _WithRateOf:
    """A shorter stage with the learning rates of the whole one."""

    def __init__(self, stage: Stage, whole: Stage):
        self.name, self.steps, self.rate = stage.name, stage.steps, whole.rate


def _look(frames: np.ndarray) -> np.ndarray:
    """Tokens without a tower: means of colour, and where the cell is."""
    step = MINI.image // MINI.grid
    cells = frames.reshape(len(frames), MINI.grid, step, MINI.grid, step, 3).mean((2, 4)) / 255
    tokens = np.zeros((len(frames), MINI.tokens_per_frame, MINI.width), np.float32)
    tokens[..., :3] = cells.reshape(len(frames), -1, 3)
    tokens[..., 3 : 3 + MINI.tokens_per_frame] = 0.3 * np.eye(MINI.tokens_per_frame)
    return tokens
