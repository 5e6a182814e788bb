"""Where an object's middle is, and how far a click is from it."""

from __future__ import annotations

import torch

from sama_plugin.nn.losses import click_loss, mask_centres


def test_centres_are_the_mean_place_of_a_mask():
    masks = torch.zeros(3, 8, 16)
    masks[0, 2:4, 12:16] = 1
    masks[1, 7, 0] = 0.5
    centres = mask_centres(masks)
    torch.testing.assert_close(centres[0], torch.tensor([14 / 16, 3 / 8]), atol=1e-3, rtol=0)
    torch.testing.assert_close(centres[1], torch.tensor([0.5 / 16, 7.5 / 8]), atol=1e-3, rtol=0)
    torch.testing.assert_close(centres[2], torch.tensor([0.5, 0.5]))


def test_a_click_on_the_middle_costs_nothing_and_no_click_neither():
    masks = torch.zeros(1, 8, 8)
    masks[0, 2:4, 2:4] = 1
    assert click_loss(torch.tensor([[3 / 8, 3 / 8]]), masks) < 1e-3
    torch.testing.assert_close(
        click_loss(torch.tensor([[5 / 8, 3 / 8]]), masks), torch.tensor(0.5), atol=1e-3, rtol=0
    )
    none = torch.zeros(0, 2, requires_grad=True)
    loss = click_loss(none, masks[:0])
    loss.backward()
    assert loss == 0
