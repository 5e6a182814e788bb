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

BCE_WEIGHT, DICE_WEIGHT = 2.0, 0.5
GOLDEN = ["six_masks_200_points", "two_masks_12544_points", "with_empty_gt"]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values_and_gradients(golden, name):
    case = golden("sa2va_losses", name)
    logits = case.inputs["pred_masks"].clone().requires_grad_()
    full = case.inputs["gt_masks_full"].float()
    targets = F.interpolate(full[:, None], logits.shape[1:], mode="nearest")[:, 0]
    assert torch.equal(targets.byte(), case.outputs["gt_resized"])
    where = case.inputs["point_coords"]
    case.close(point_sample(logits.detach(), where), "sampled_pred")
    case.close(point_sample(targets, where), "sampled_target")
    bce, dice = mask_loss_at(logits, targets, where)
    case.close(BCE_WEIGHT * bce.detach(), "loss_mask_points")
    case.close(DICE_WEIGHT * dice.detach(), "loss_dice_points")
    (BCE_WEIGHT * bce + DICE_WEIGHT * dice).backward()
    case.close(logits.grad, "grad_pred_points")


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_dice_on_all_pixels(golden, name):
    case = golden("sa2va_losses", name)
    targets = case.outputs["gt_resized"].float()
    dice = dice_loss(case.inputs["pred_masks"].flatten(1), targets.flatten(1)).mean()
    case.close(DICE_WEIGHT * dice, "loss_dice_full")


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
