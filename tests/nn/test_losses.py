"""Mask losses: golden values and gradients, any number of masks, reproducible points."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sama_plugin.nn.losses import (
    dice_loss,
    mask_loss_at,
    object_score_loss,
    point_sample,
    point_sampled_mask_loss,
    uncertain_points,
)
from tests.nn.conftest import golden_cases


@golden_cases("sa2va_losses")
def test_golden(case):
    if "point_coords" in case.inputs:
        losses_on_points_and_on_all_pixels(case)
    else:
        objects_are_balanced(case)


def losses_on_points_and_on_all_pixels(case):
    full = case.inputs["gt_masks_full"].float()
    size = case.inputs["pred_masks"].shape[1:]
    targets = F.interpolate(full[:, None], size, mode="nearest")[:, 0]
    case.same(targets, "gt_resized")
    where = case.inputs["point_coords"]
    case.close(point_sample(case.inputs["pred_masks"], where), "sampled_pred")
    case.close(point_sample(targets, where), "sampled_target")
    hyper = case.sizes()
    weights = hyper["loss_mask_weight"], hyper["loss_dice_weight"]

    logits = case.inputs["pred_masks"].clone().requires_grad_()
    bce, dice = (w * loss for w, loss in zip(weights, mask_loss_at(logits, targets, where)))
    case.close(bce.detach(), "loss_mask_points")
    case.close(dice.detach(), "loss_dice_points")
    case.close(torch.autograd.grad(bce + dice, logits)[0], "grad_pred_points")

    flat = logits.flatten(1), targets.flatten(1)
    bce = weights[0] * F.binary_cross_entropy_with_logits(*flat)
    dice = weights[1] * dice_loss(*flat).mean()
    case.close(bce.detach(), "loss_mask_full")
    case.close(dice.detach(), "loss_dice_full")
    case.close(torch.autograd.grad(bce + dice, logits)[0], "grad_pred_full")


def balanced(predicted, wanted, size, order):
    """Objects of a frame that Sa2VA supervises: exactly `size` of them. Ours supervises all."""
    objects = min(predicted, wanted)
    return order[:size] if objects > size else [slot % objects for slot in range(size)]


def by_frame(videos, frames):
    """Masks stored object after object to one (objects, h, w) for each frame of the batch."""
    return [
        masks.unflatten(0, (-1, count))[:, frame]
        for masks, count in zip(videos, frames)
        for frame in range(count)
    ]


def objects_are_balanced(case):
    hyper = case.sizes()
    for number, (predicted, wanted) in enumerate(hyper["groups_pred_gt"]):
        names = [f"frame{number}.{side}_index" for side in ("pred", "gt")]
        drawn = case.wanted(names[0]).tolist()  # the permutation is recorded by its result
        size = hyper["objects_per_frame"]
        kept = balanced(predicted, wanted, size, drawn)
        for name in names:
            case.same(kept, name)
        assert len(set(kept)) == min(predicted, wanted, size)
    frames, objects = hyper["video_gt_frames_per_sample"], hyper["video_gt_objects"]
    masks = case.inputs["video_gt_input"]
    videos = [masks[: count * length] for count, length in zip(objects, frames)]
    found = by_frame(videos, frames)
    for number, one in enumerate(found):
        case.same(one, f"video_gt.frame{number}")


@pytest.mark.parametrize("masks", [0, 1, 3, 7])
def test_any_number_of_masks(masks):
    logits = torch.randn(masks, 9, 11, requires_grad=True)
    bce, dice = point_sampled_mask_loss(logits, torch.rand(masks, 20, 30), points=40)
    score = object_score_loss(logits.mean((1, 2)), torch.arange(masks) % 2 == 0)
    (bce + dice + score).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert all((loss == 0) == (masks == 0) for loss in (bce, dice, score))


def test_repeating_a_mask_does_not_change_the_loss():
    logits, targets = torch.randn(2, 8, 8), torch.rand(2, 8, 8).round()
    where = torch.rand(2, 50, 2)
    once = mask_loss_at(logits, targets, where)
    thrice = mask_loss_at(*(t.repeat(3, 1, 1) for t in (logits, targets, where)))
    torch.testing.assert_close(once, thrice, atol=1e-4, rtol=0)


def test_points_are_reproducible_and_the_unsure_ones_come_first():
    ramp = torch.linspace(-4, 4, 64).expand(2, 64, 64)  # unsure in the middle columns
    points = uncertain_points(ramp, 100, 3.0, 0.75, torch.Generator().manual_seed(3))
    again = uncertain_points(ramp, 100, 3.0, 0.75, torch.Generator().manual_seed(3))
    assert torch.equal(points, again) and points.shape == (2, 100, 2)
    distance = (points[..., 0] - 0.5).abs()
    assert distance[:, :75].max() < 0.2 < distance[:, 75:].max()


def test_point_sample_agrees_with_bilinear_interpolation_by_hand():
    image = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    table = {
        (0.25, 0.25): 0.0,  # centre of the first pixel
        (0.75, 0.25): 1.0,
        (0.5, 0.5): 1.5,
        (0.5, 0.75): 2.5,
        (0.0, 0.0): 0.0,  # the corner: a quarter of the first pixel, zeros outside
        (1.0, 1.0): 0.75,
    }
    values = point_sample(image, torch.tensor([list(table)]))
    torch.testing.assert_close(values[0], torch.tensor(list(table.values())))


def test_object_score_loss_is_the_mean_binary_cross_entropy():
    scores, present = torch.tensor([[2.0], [-1.0], [0.5]]), torch.tensor([True, False, False])
    expected = -torch.log(
        torch.stack([scores[0].sigmoid(), 1 - scores[1].sigmoid(), 1 - scores[2].sigmoid()])
    )
    torch.testing.assert_close(object_score_loss(scores, present), expected.mean())
