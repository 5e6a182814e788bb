"""Temporal merging and clustering: counts known beforehand, repeatable, equal to a plain loop."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from sama_plugin.nn.clustering import cluster
from sama_plugin.nn.merging import merge_similar
from sama_plugin.nn.videorefer_released import merge_by_threshold


def ragged(lengths, width=5, seed=0):
    """Random vectors of regions with these many entries, and their owners."""
    generator = torch.Generator().manual_seed(seed)
    owner = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths, dtype=torch.long))
    return torch.randn(sum(lengths), width, generator=generator), owner


@pytest.mark.parametrize("most", [1, 2, 4])
@pytest.mark.parametrize("lengths", [[9], [1, 0, 7, 4, 2], [0, 0], [3, 32]])
def test_as_many_unions_as_promised_and_the_published_ones_without_ties(lengths, most):
    vectors, owner = ragged(lengths)
    merged, of = merge_similar(vectors, owner, len(lengths), most)
    assert torch.bincount(of, minlength=len(lengths)).tolist() == [min(k, most) for k in lengths]
    plain = torch.cat([merge_by_threshold(one, most) for one in vectors.split(lengths)])
    torch.testing.assert_close(merged, plain)


def test_cuts_lie_where_the_thing_changes():
    looks = torch.eye(3)[[0, 0, 0, 1, 1, 2]] + 0.01 * ragged([6], 3)[0]
    merged, _ = merge_similar(looks, torch.zeros(6, dtype=torch.long), 1, 3)
    torch.testing.assert_close(merged.round(), torch.eye(3))


def test_ties_do_not_collapse_as_they_do_in_the_published_rule():
    frames = torch.zeros(8, 4)
    frames[[0, 3, 7]] = torch.eye(4)[:3]  # seen thrice, absent in between
    assert len(merge_by_threshold(frames, 4)) == 1
    assert len(merge_similar(frames, torch.zeros(8, dtype=torch.long), 1, 4)[0]) == 4


@pytest.mark.parametrize("most", [1, 3, 8])
@pytest.mark.parametrize("lengths", [[20], [5, 0, 12, 1], [0], [3, 3]])
def test_clusters_are_as_many_as_promised_and_none_is_empty(lengths, most):
    points, owner = ragged(lengths)
    for given in (points, torch.zeros_like(points)):  # also when all points are one
        found = cluster(given, owner, len(lengths), most)
        sizes = torch.bincount(found)
        assert len(sizes) == sum(min(k, most) for k in lengths) and (sizes > 0).all()
        assert torch.equal(found, cluster(given, owner, len(lengths), most))
        firsts = [int((found == number).nonzero()[0]) for number in range(len(sizes))]
        assert firsts == sorted(firsts)  # numbered by their first point, region after region


def test_regions_do_not_disturb_each_other():
    points, owner = ragged([7, 12, 4])
    together, start = cluster(points, owner, 3, 3), 0
    for number, one in enumerate(points.split([7, 12, 4])):
        alone = cluster(one, torch.zeros(len(one), dtype=torch.long), 1, 3)
        assert torch.equal(together[owner == number], alone + start)
        start += 3


def test_well_separated_groups_are_found():
    centres = 10 * F.one_hot(torch.arange(3)).float()
    points = torch.cat([c + 0.1 * ragged([5], 3, seed)[0] for seed, c in enumerate(centres)])
    order = torch.randperm(15, generator=torch.Generator().manual_seed(1))
    found = cluster(points[order], torch.zeros(15, dtype=torch.long), 1, 3)
    true = (torch.arange(15) // 5)[order]
    for a, b in itertools.combinations(range(15), 2):
        assert (found[a] == found[b]) == (true[a] == true[b])
