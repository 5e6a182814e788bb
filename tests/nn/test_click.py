"""Where a click on an object goes, and how far a prompt vector is from it."""

from __future__ import annotations

import torch

from sama_plugin.nn.losses import mask_centres, prompt_distance


def test_centres_are_the_mean_place_of_a_mask():
    masks = torch.zeros(3, 8, 16)
    masks[0, 2:4, 12:16] = 1
    masks[1, 7, 0] = 0.5
    centres = mask_centres(masks)
    torch.testing.assert_close(centres[0], torch.tensor([14 / 16, 3 / 8]), atol=1e-3, rtol=0)
    torch.testing.assert_close(centres[1], torch.tensor([0.5 / 16, 7.5 / 8]), atol=1e-3, rtol=0)
    torch.testing.assert_close(centres[2], torch.tensor([0.5, 0.5]))


def test_distance_is_zero_for_equal_one_for_nothing_and_nothing_for_no_rows():
    wanted = torch.randn(5, 7)
    assert prompt_distance(wanted, wanted) == 0
    torch.testing.assert_close(prompt_distance(torch.zeros(5, 7), wanted), torch.tensor(1.0))
    empty = torch.zeros(0, 7, requires_grad=True)
    loss = prompt_distance(empty, torch.zeros(0, 7))
    loss.backward()
    assert loss == 0
