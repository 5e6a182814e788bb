"""Vectors of one thing over time, merged where it hardly changes (VideoRefer, section 3.2.2).

A thing pointed at on k frames becomes at most u tokens: neighbours in time that look alike are
averaged, and the cuts lie where it changes most. Exactly min(u, k) unions come out, so the number
of slots is known before any pixel is read. `videorefer_released.py` keeps the published
rule, which gives fewer when similarities tie. No parameters. Used by `videorefer.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def merge_similar(vectors: Tensor, owner: Tensor, regions: int, most: int) -> tuple[Tensor, Tensor]:
    """Average runs of similar neighbours; cuts are made at the `most` - 1 least similar pairs.

    Args:
        vectors: (M, C), entries of a region one after the other, in time order.
        owner: (M,) long, region of each entry, ascending.
        regions: R. most: u.

    Returns:
        (X, C) averages and their regions (X,) long; min(u, k) of them for a region of k entries.
    """
    place = places(owner, regions)  # (M,)
    cut = _cuts(vectors.detach().float(), owner, place, regions, most)  # (M,) before this entry
    group = (cut | (place == 0)).long().cumsum(0) - 1  # (M,)
    return average(vectors, group), owner[cut | (place == 0)]


def average(vectors: Tensor, group: Tensor) -> Tensor:
    """Mean of the vectors (M, C) of each group (M,), numbered from 0 without gaps: (X, C)."""
    if not group.numel():
        return vectors
    assign = F.one_hot(group).T.float()  # (X, M)
    share = assign / assign.sum(-1, keepdim=True)
    return share.to(vectors.dtype) @ vectors


def places(owner: Tensor, regions: int) -> Tensor:
    """(M,) long: the how-manieth entry of its region each one is; `owner` ascending."""
    counts = torch.bincount(owner, minlength=regions)[:regions]
    first = counts.cumsum(0) - counts  # (R,)
    return torch.arange(owner.shape[0], device=owner.device) - first[owner]


def _cuts(vectors: Tensor, owner: Tensor, place: Tensor, regions: int, most: int) -> Tensor:
    cut = torch.zeros_like(owner, dtype=torch.bool)
    if owner.shape[0] < 2:
        return cut
    alike = F.cosine_similarity(vectors[1:], vectors[:-1], dim=-1)  # (M - 1,)
    inside = place[1:] > 0
    table = alike.new_full((regions, int(place.max()) + 1), float("inf"))
    table[owner[1:][inside], place[1:][inside]] = alike[inside]
    rank = table.argsort(dim=1, stable=True).argsort(dim=1)  # (R, K), 0 is the least similar
    cut[1:] = inside & (rank[owner, place][1:] < most - 1)
    return cut
