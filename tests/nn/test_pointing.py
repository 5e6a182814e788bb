"""Pointing at targets in the frames that were read: what is compared, where it may look, and that
it learns."""

from __future__ import annotations

import math

import pytest
import torch

from sama_plugin.nn.pointing import Pointer, ReadFrames, Seen, place_loss

GRID, CELLS, WIDTH = (3, 4), 12, 16


def pointer(seed: int = 0) -> Pointer:
    torch.manual_seed(seed)
    made = Pointer(WIDTH, 8, GRID)
    torch.nn.init.normal_(made.shift.weight, std=0.5)
    return made.eval()


def read(moments, owner) -> ReadFrames:
    states = torch.randn(len(owner), CELLS, WIDTH, generator=torch.Generator().manual_seed(1))
    return ReadFrames(states, torch.tensor(moments).float(), torch.tensor(owner).long())


def ask(made: Pointer, frames: ReadFrames, owner, target, moment, states=None):
    """Pointed, with the points themselves as the segmenter's embeddings."""
    if states is None:
        states = torch.randn(len(owner), WIDTH, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return made(
            states,
            torch.tensor(owner).long(),
            made.seen(frames),
            torch.tensor(target).long(),
            torch.tensor(moment).float(),
            lambda points: points,
        )


def test_shares_of_a_keyframe_add_up_and_clicks_are_the_mixed_embeddings():
    found = ask(pointer(), read([0.0, 1.0], [0, 0]), [0, 0], [0, 1, 1], [0.0, 0.0, 1.0])
    assert found.shares.shape == (3, CELLS) and found.found.all()
    torch.testing.assert_close(found.shares.sum(-1), torch.ones(3))
    torch.testing.assert_close(found.clicks, found.points)  # the embedding of a point is itself
    assert (found.points > 0).all() and (found.points < 1).all()
    assert not torch.allclose(found.shares[0], found.shares[1])


def test_between_frames_neighbours_are_mixed_by_their_distance():
    moments = [0.0, 0.2, 0.25, 0.8, 1.0]
    asked = [0] * len(moments)
    found = ask(pointer(), read([0.2, 0.8], [0, 0]), [0], asked, moments)
    first, last = found.shares[1], found.shares[3]
    torch.testing.assert_close(found.shares[0], first)  # before the first: the first
    torch.testing.assert_close(found.shares[4], last)
    torch.testing.assert_close(found.shares[2], first * (11 / 12) + last / 12)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_a_sample_sees_its_own_frames_only(order):
    """Batched with samples of other lengths, and frames of other samples, nothing changes."""
    made, frames = pointer(), read([0.1, 0.5, 0.9, 0.0, 1.0, 0.3], [0, 0, 0, 1, 1, 2])
    states = torch.randn(3, WIDTH)
    rank = [order.index(sample) for sample in range(3)]
    moved = torch.argsort(torch.tensor([rank[one] for one in frames.owner.tolist()]), stable=True)
    mixed = ReadFrames(
        frames.states[moved],
        frames.moment[moved],
        torch.tensor([rank[one] for one in frames.owner[moved].tolist()]),
    )
    together = ask(made, mixed, sorted(rank), [0, 1, 2], [0.4] * 3, states[order])
    for place, sample in enumerate(order):
        mine = frames.owner == sample
        own = ReadFrames(frames.states[mine], frames.moment[mine], torch.zeros(mine.sum()).long())
        alone = ask(made, own, [0], [0], [0.4], states[[sample]])
        torch.testing.assert_close(together.points[[place]], alone.points, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.shares[[place]], alone.shares, atol=1e-5, rtol=1e-5)


def test_conversations_that_share_their_frames_look_at_one_row():
    made = pointer()
    one, other = (made.seen(read(at, [0] * len(at))) for at in ([0.1, 0.5, 0.9], [0.0, 1.0]))
    mine = [other, None, one, other]
    seen = Seen.together(mine)
    assert len(seen.tokens) == 2 and seen.rows(torch.arange(4)).tolist() == [0, -1, 1, 0]
    assert Seen.together([None, None]) is None
    states, own = torch.randn(4, WIDTH), torch.zeros(1).long()

    def look(states, owner, seen):
        asked = torch.arange(len(owner)), torch.full((len(owner),), 0.4)
        with torch.no_grad():
            return made(states, owner, seen, *asked, lambda points: points)

    together = look(states, torch.arange(4), seen)
    assert together.found.tolist() == [True, False, True, True]
    for place in (0, 2, 3):
        alone = look(states[[place]], own, mine[place])
        torch.testing.assert_close(together.points[[place]], alone.points, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.shares[[place]], alone.shares, atol=1e-5, rtol=1e-5)


def test_what_was_shown_no_frame_is_not_found_and_has_no_click():
    found = ask(pointer(), read([0.0, 1.0], [1, 1]), [0, 1], [0, 1], [0.5, 0.5])
    assert found.found.tolist() == [False, True]
    assert (found.clicks[0] == 0).all() and torch.isfinite(found.shares).all()


@pytest.mark.parametrize("frames", [0, 2])
def test_every_parameter_gets_a_gradient_without_work(frames):
    made = Pointer(WIDTH, 8, GRID)
    none = torch.zeros(0, dtype=torch.long)
    seen = read([0.0] * frames, [0] * frames)
    found = made(
        torch.zeros(0, WIDTH), none, made.seen(seen), none, torch.zeros(0), lambda points: points
    )
    assert found.points.shape == (0, 2) and found.clicks.shape == (0, 2)
    (
        found.points.sum()
        + found.clicks.sum()
        + place_loss(found.shares, none[:, None, None], GRID)
    ).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None and (parameter.grad == 0).all(), name


def test_place_loss_is_one_without_an_idea_and_small_on_the_thing():
    masks = torch.zeros(1, 6, 8)
    masks[0, 2:4, 4:6] = 1  # exactly the cell in row 1, column 2
    even = torch.full((1, CELLS), 1 / CELLS)
    torch.testing.assert_close(place_loss(even, masks, GRID), torch.tensor(1.0))
    right = torch.full((1, CELLS), 1e-4).index_fill(1, torch.tensor([6]), 1.0)
    assert place_loss(right, masks, GRID) < 1e-3
    wrong = right.roll(1, 1)
    assert place_loss(wrong, masks, GRID) > math.log(1e4) / math.log(CELLS) - 1e-3
    assert place_loss(even[:0], masks[:0], GRID) == 0


def test_it_learns_to_tell_look_alikes_by_what_they_did_before():
    """Two equal things a frame; the one asked for moved one column to the right since the first
    frame. On no single frame can it be told."""
    generator = torch.Generator().manual_seed(3)
    made = Pointer(WIDTH, 16, GRID)
    optimiser = torch.optim.Adam(made.parameters(), 4e-3)
    look = torch.randn(WIDTH, generator=generator)

    def batch(size: int):
        states = 0.1 * torch.randn(2 * size, CELLS, WIDTH, generator=generator)
        right = torch.zeros(size, dtype=torch.long)
        for one in range(size):
            row = torch.randperm(3, generator=generator)[:2] * 4
            column = torch.randint(1, 3, (2,), generator=generator)
            here, step = row + column, torch.tensor([1, -1])
            states[2 * one, here] += look
            states[2 * one + 1, here + step] += look
            right[one] = (here + step)[0]
        frames = ReadFrames(
            states, torch.tensor([0.0, 1.0]).repeat(size), torch.arange(size).repeat_interleave(2)
        )
        each = torch.arange(size)
        state = look.expand(size, -1)
        found = made(state, each, made.seen(frames), each, torch.ones(size), lambda points: points)
        return found.shares, right

    for _ in range(150):
        shares, right = batch(32)
        loss = torch.nn.functional.nll_loss(shares.clamp_min(1e-9).log(), right)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    shares, right = batch(128)
    assert (shares.argmax(-1) == right).float().mean() > 0.8
