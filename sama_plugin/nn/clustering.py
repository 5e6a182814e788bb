"""k-means that gives the same clusters every time, for many regions at once.

PixelRefer seeds k-means from the global generator, so that greedy decoding is not repeatable; here
the seeds are the points farthest from each other. A seed never leaves its cluster: every region of
L points gets exactly min(most, L) clusters, none empty. Used by `pixelrefer.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sama_plugin.nn.merging import places

OUT, TAKEN = -2.0, -1.0  # distances that no point has: a place without point, a seed


@torch.no_grad()
def cluster(points: Tensor, owner: Tensor, regions: int, most: int, rounds: int = 5) -> Tensor:
    """Cluster of each point.

    Args:
        points: (K, C). owner: (K,) long, region of each, ascending.
        regions: R. most: clusters of a region, at most. rounds: of k-means.

    Returns:
        (K,) long, numbered through all regions; within one, by each cluster's first point.
    """
    if not owner.numel():
        return owner
    place = places(owner, regions)
    longest = int(place.max()) + 1
    padded = points.new_zeros(regions, longest, points.shape[-1], dtype=torch.float32)
    padded[owner, place] = points.float()  # (R, L, C)
    lengths = torch.bincount(owner, minlength=regions)[:regions]
    clusters = lengths.clamp(max=most)  # (R,)
    real = torch.arange(longest, device=owner.device) < lengths[:, None]  # (R, L)
    count = min(most, longest)
    seeds = _far_apart(padded, real, count)  # (R, S)
    used = torch.arange(count, device=owner.device) < clusters[:, None]  # (R, S)
    chosen = _rounds(padded, real, seeds, used, rounds)  # (R, L)
    return _numbered(chosen, real, clusters, count)[owner, place]


def _far_apart(points: Tensor, real: Tensor, count: int) -> Tensor:
    """(R, S) places: first the point farthest from the mean, then farthest from all before."""
    middle = points.sum(1, keepdim=True) / real.sum(1).clamp_min(1)[:, None, None]
    distance = (points - middle).norm(dim=-1)  # (R, L)
    taken, seeds = torch.zeros_like(real), []
    rows = torch.arange(points.shape[0], device=points.device)
    for number in range(count):
        seed = distance.masked_fill(taken, TAKEN).masked_fill(~real, OUT).argmax(1)  # (R,)
        away = (points - points[rows, seed][:, None]).norm(dim=-1)
        distance = away if number == 0 else away.minimum(distance)
        taken[rows, seed] = True
        seeds.append(seed)
    return torch.stack(seeds, dim=1)


def _rounds(points: Tensor, real: Tensor, seeds: Tensor, used: Tensor, rounds: int) -> Tensor:
    centres = points.gather(1, seeds[..., None].expand(-1, -1, points.shape[-1]))  # (R, S, C)
    regions, own = used.nonzero(as_tuple=True)
    for number in range(rounds + 1):
        distance = torch.cdist(points, centres).masked_fill(~used[:, None], float("inf"))
        chosen = distance.argmin(-1)  # (R, L)
        chosen[regions, seeds[regions, own]] = own
        if number < rounds:
            member = F.one_hot(chosen, seeds.shape[1]).float() * real[..., None]  # (R, L, S)
            total = member.sum(1).clamp_min(1)[..., None]  # (R, S, 1)
            centres = member.transpose(1, 2) @ points / total
    return chosen


def _numbered(chosen: Tensor, real: Tensor, clusters: Tensor, count: int) -> Tensor:
    longest = chosen.shape[1]
    member = F.one_hot(chosen, count).bool() & real[..., None]  # (R, L, S)
    first = torch.where(member.any(1), member.long().argmax(1), longest)  # (R, S)
    rank = first.argsort(dim=1, stable=True).argsort(dim=1)  # (R, S)
    start = clusters.cumsum(0) - clusters  # (R,)
    return start[:, None] + rank.gather(1, chosen)
