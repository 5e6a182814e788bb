"""Prompts, losses, batches and resumption of the mini segmenter's pre-training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sama_plugin.miniworld.pretrain_segmenter import Progress, Stage
from sama_plugin.miniworld.rendered import NO_THING, RenderedClips
from sama_plugin.miniworld.segmenter_images import IMAGES, OBJECTS, CellHeads, augment, draw_images
from sama_plugin.miniworld.segmenter_losses import mask_losses
from sama_plugin.miniworld.segmenter_prompts import box_of, draw_prompts
from sama_plugin.miniworld.segmenter_videos import draw_videos
from sama_plugin.miniworld.things import COLOURS
from sama_plugin.miniworld.world import sample_clip


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> RenderedClips:
    return RenderedClips(tmp_path_factory.mktemp("clips"), "train", 3).fill()


def masks(count: int = 40, size: int = 64) -> np.ndarray:
    rng = np.random.default_rng(1)
    found = np.zeros((count, size, size), bool)
    for mask in found:
        y, x = rng.integers(4, size - 24, 2)
        mask[y : y + rng.integers(5, 20), x : x + rng.integers(5, 20)] = True
    return found


def drawn(kind: str, slots: int):
    shown = masks()
    return shown, draw_prompts(shown, [kind] * len(shown), slots, np.random.default_rng(2))


@pytest.mark.parametrize("kind, slots", [("point", 1), ("points", 4), ("background", 1)])
def test_points_lie_where_their_labels_say(kind, slots):
    shown, prompts = drawn(kind, slots)
    for mask, points, labels in zip(shown, prompts.points.astype(int), prompts.labels):
        inside = mask[points[:, 1], points[:, 0]]
        expected = {1: kind != "background", 0: False}
        assert all(got == expected[label] for got, label in zip(inside, labels) if label >= 0)
        assert (labels >= 0).any()


def test_boxes_stay_near_their_masks():
    shown, prompts = drawn("box", 2)
    assert (prompts.labels == [2, 3]).all()
    tight = np.stack([box_of(mask) for mask in shown])
    assert np.abs(prompts.points - tight).max() <= 3
    assert box_of(shown[0])[1].tolist() == [c.max() + 1 for c in np.nonzero(shown[0])[::-1]]


def test_rough_masks_differ_little():
    shown, prompts = drawn("mask", 1)
    assert prompts.has_rough.all() and (prompts.labels == -1).all()
    overlap = (prompts.rough > 0) & shown
    assert (overlap.sum((1, 2)) > 0).all() and (prompts.rough > 0).sum() != shown.sum()


@pytest.mark.parametrize("candidates", [1, 3, 4])
def test_losses_reward_the_right_mask_and_the_right_absence(candidates):
    targets = torch.zeros(3, 128, 128)
    targets[0, 16:80, 32:96] = targets[1, 64:96, 64:120] = 1
    small = nn.functional.adaptive_avg_pool2d(targets, 32)
    right = ((small * 2 - 1) * 12)[:, None].expand(-1, candidates, -1, -1)
    ones = torch.ones(3, candidates)
    score = torch.tensor([[8.0], [8.0], [-8.0]])
    good = mask_losses(right, ones, score, targets)
    assert good.total < 0.15 and good.iou > 0.97
    assert mask_losses(-right, ones, score, targets).mask > 2
    assert mask_losses(right, ones, -score, targets).score > 5
    assert mask_losses(right, ones * 0, score, targets).quality > 0.9


def test_only_the_best_candidate_is_pulled_hard():
    targets = torch.zeros(1, 128, 128)
    targets[0, 16:80, 32:96] = 1
    logits = torch.zeros(1, 4, 32, 32)
    logits[0, 2] = (nn.functional.adaptive_avg_pool2d(targets, 32)[0] - 0.5) * 4
    logits.requires_grad_()
    mask_losses(logits, torch.ones(1, 4), torch.ones(1, 1), targets).mask.backward()
    reached = logits.grad.abs().sum((0, 2, 3)) > 0
    assert reached.tolist() == [True, False, True, False]


def test_rendered_clips_resume_and_know_their_things(clips):
    again = RenderedClips(clips.folder.parent, "train", 3)
    assert again.ready == 3 and (again.frames[2] == clips.frames[2]).all()
    clip = sample_clip(1, "train")
    first = clip.things[0]
    expected = NO_THING if first.colour_after else list(COLOURS).index(first.colour)
    assert clips.attributes[1, 0, 0] == expected
    assert (clips.attributes[1, len(clip.things) :] == NO_THING).all()


def test_batches_are_reproducible_and_whole(clips):
    first, second = (draw_images(clips, np.random.default_rng(5)) for _ in range(2))
    assert first.pixels.shape == (IMAGES, 3, 128, 128)
    assert first.masks.shape == (IMAGES * OBJECTS, 128, 128)
    assert torch.equal(first.pixels, second.pixels) and torch.equal(first.masks, second.masks)
    finest, embedding = torch.randn(IMAGES, 16, 32, 32), torch.randn(IMAGES, 128, 8, 8)
    assert CellHeads(128)(embedding, finest, first).isfinite()


def test_video_batches_start_with_visible_things(clips):
    rng = np.random.default_rng(6)
    for _ in range(5):
        batch = draw_videos(clips, rng)
        length, things = batch.masks.shape[:2]
        assert batch.pixels.shape[0] * 3 == length * things
        assert batch.prompted[0] == 0 and len(batch.prompts) == len(batch.prompted)
        assert all(batch.masks[t].flatten(1).any(1).all() for t in batch.prompted)


def test_augmentation_moves_pixels_and_labels_together():
    labels = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    frames = np.repeat(labels[..., None], 3, -1)
    for seed in range(8):
        moved, moved_labels = augment(frames, labels, np.random.default_rng(seed))
        assert np.array_equal(
            np.argsort(moved[0, ..., 0].ravel()), np.argsort(moved_labels.ravel())
        )


def test_an_interrupted_run_equals_an_uninterrupted_one(tmp_path):
    stage = Stage("tiny", steps=6, peak=1e-2, warmup=2, evaluate_every=9)

    def run(path, stops):
        for stop in stops:
            torch.manual_seed(0)
            modules = nn.ModuleDict({"m": nn.Linear(4, 4)})
            groups = [{"params": list(modules.parameters()), "scale": 1.0}]
            progress = Progress(path, modules, groups, seed=3)
            while progress.step < stop:
                x = torch.tensor(progress.rng.normal(size=(8, 4)), dtype=torch.float32)
                noise = torch.rand(())
                progress.update(modules["m"](x).square().mean() * noise, stage.rate(progress.step))
            progress.save(force=True)
        return modules["m"].weight

    assert torch.equal(run(tmp_path / "a.pt", [6]), run(tmp_path / "b.pt", [2, 6]))
