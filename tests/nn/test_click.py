"""Where an object's middle is, how far a click is from it, and a head that clicks."""

from __future__ import annotations

import torch

from sama_plugin.nn.losses import click_loss, mask_centres
from sama_plugin.nn.seg import SegHead


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


def test_a_head_learns_to_point_and_begins_in_the_middle():
    torch.manual_seed(0)
    head, states = SegHead(8, 4, moments=True, pointing=True), torch.randn(32, 8)
    moment, aim = torch.rand(32), torch.rand(32, 2)
    vectors, points = head(states, moment)
    assert vectors.shape == (32, 4)
    torch.testing.assert_close(points, torch.full((32, 2), 0.5))
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        missed = (head(states, moment)[1] - aim).abs().mean()
        missed.backward()
        optimiser.step()
    assert missed < 0.6 * (points - aim).abs().mean()
    assert SegHead(8, 4)(states)[1] is None
