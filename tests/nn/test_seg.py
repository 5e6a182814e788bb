"""[SEG] head: the released two layers, and the place of the keyframe on top of them."""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from sama_plugin.nn.seg import SegHead


def test_without_moments_it_is_linear_relu_linear():
    head, states = SegHead(6, 4), torch.randn(3, 6)
    weights = head.state_dict()
    assert set(weights) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    hidden = linear(states, weights["0.weight"], weights["0.bias"]).relu()
    torch.testing.assert_close(head(states), linear(hidden, weights["2.weight"], weights["2.bias"]))


def test_moments_start_silent_and_are_heard_after_a_step():
    torch.manual_seed(0)
    head, states = SegHead(6, 4, moments=True), torch.randn(1, 6).expand(3, -1)
    moments = torch.tensor([0.0, 0.4, 1.0])
    start = head(states, moments)
    torch.testing.assert_close(start, start[:1].expand(3, -1))
    (start * torch.tensor([[1.0], [0.0], [-1.0]])).sum().backward()
    with torch.no_grad():
        for parameter in head.film.parameters():
            parameter -= 0.1 * parameter.grad
    after = head(states, moments)
    assert not torch.allclose(after[0], after[2], atol=1e-3)
