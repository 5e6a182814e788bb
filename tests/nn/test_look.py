"""Looking again: what words can look at, what they are told, and that it learns."""

from __future__ import annotations

import math

import pytest
import torch

from sama_plugin.nn.look import Look, look_loss
from sama_plugin.nn.pointing import Seen

WIDTH, HIDDEN, CELLS = 12, 8, 4


def look(seed: int = 0) -> Look:
    torch.manual_seed(seed)
    made = Look(WIDTH, HIDDEN)
    torch.nn.init.normal_(made.told[-1].weight)
    return made


def seen(frames, longest=None) -> Seen:
    """Random tokens of samples with so many frames each."""
    longest = longest or max(frames)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(len(frames), longest, CELLS, HIDDEN, generator=generator)
    real = torch.arange(longest) < torch.tensor(frames)[:, None]
    return Seen(tokens, torch.zeros(real.shape), real, torch.arange(len(frames)))


def test_fresh_words_are_not_changed():
    made, frames = Look(WIDTH, HIDDEN), seen([2])
    told, shares = made(torch.randn(3, WIDTH), torch.zeros(3).long(), made.view(frames))
    assert (told == 0).all()
    torch.testing.assert_close(shares.sum(-1), torch.ones(3))


@pytest.mark.parametrize("rows", [[0, 0, 2, 2, 2], [2, 0, 2, 0, 2]])
def test_each_looks_at_its_own_frames_only(rows):
    made, states = look(), torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2))
    row = torch.tensor(rows)
    together, shares = made(states, row, made.view(seen([3, 2, 1])))
    for sample, frames in ((0, 3), (2, 1)):
        mine, every = row == sample, seen([3, 2, 1])
        own = Seen(
            every.tokens[[sample], :frames],
            every.times[[sample], :frames],
            every.real[[sample], :frames],
            torch.tensor([0]),
        )
        alone, share = made(states[mine], torch.zeros(mine.sum()).long(), made.view(own))
        torch.testing.assert_close(together[mine], alone)
        torch.testing.assert_close(shares[mine][:, : frames * CELLS], share[:, :-1])
        torch.testing.assert_close(shares[mine][:, -1], share[:, -1])
        assert (shares[mine][:, frames * CELLS : -1] == 0).all()


@pytest.mark.parametrize("frames", [0, 2])
def test_every_parameter_gets_a_gradient_without_work(frames):
    made = look()
    none = torch.zeros(0, dtype=torch.long)
    told, shares = made(torch.zeros(0, WIDTH), none, made.view(seen([frames], 2)))
    assert told.shape == (0, WIDTH) and shares.shape == (0, 2 * CELLS + 1)
    (told.sum() + look_loss(shares, shares[:, :-1], shares[:, :-1])).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None and (parameter.grad == 0).all(), name


def test_look_loss_counts_judged_frames_and_nothing():
    shares = torch.tensor([[0.1, 0.3, 0.4, 0.0, 0.2]])  # two frames of two cells, and nothing
    cells = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    first = torch.tensor([[True, True, False, False]])
    wanted = -math.log(0.1 / (0.1 + 0.3 + 0.2))  # the second frame is not judged
    torch.testing.assert_close(look_loss(shares, cells, first), torch.tensor(wanted))
    half = look_loss(shares, 0.5 * cells, first)
    torch.testing.assert_close(half, torch.tensor(wanted + math.log(2)))
    every = torch.ones_like(first)
    torch.testing.assert_close(look_loss(shares, cells, every), torch.tensor(-math.log(0.1)))
    right = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]])
    assert look_loss(right, cells, every) == 0
    assert look_loss(shares[:0], cells[:0], first[:0]) == 0


def test_it_learns_whether_a_thing_is_there():
    """A word asks for one of eight things; four are shown. No token alone and no word alone says
    whether it is among them."""
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(0)
    made = Look(WIDTH, 16)
    head = torch.nn.Linear(WIDTH, 1)
    things = torch.randn(8, 16, generator=generator)
    names = torch.randn(8, WIDTH, generator=generator)
    optimiser = torch.optim.Adam([*made.parameters(), *head.parameters()], 4e-3)

    def batch(size):
        shown = torch.stack([torch.randperm(8, generator=generator)[:4] for _ in range(size)])
        asked = torch.randint(8, (size,), generator=generator)
        real = torch.ones(size, 1, dtype=torch.bool)
        frames = Seen(things[shown][:, None], torch.zeros(size, 1), real, torch.arange(size))
        told, shares = made(names[asked], torch.arange(size), made.view(frames))
        there = shown == asked[:, None]
        return head(told)[:, 0], there, shares

    for _ in range(150):
        said, there, shares = batch(64)
        found = there.any(1)
        wrong = torch.nn.functional.binary_cross_entropy_with_logits(said, found.float())
        place = look_loss(shares[found], there[found].float(), torch.ones_like(there[found]))
        optimiser.zero_grad()
        (wrong + place).backward()
        optimiser.step()
    said, there, shares = batch(256)
    assert ((said > 0) == there.any(1)).float().mean() > 0.95
    assert (shares[:, :-1] * there).sum(-1)[there.any(1)].mean() > 0.9
    assert shares[~there.any(1), -1].mean() > shares[there.any(1), -1].mean()
