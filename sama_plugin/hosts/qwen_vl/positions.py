"""Multimodal rotary positions of a token sequence whose images are all of one grid.

A word moves all three axes on by one. The h x w tokens of an image share one temporal position,
count rows and columns on the other two, and move everything on by max(h, w). So positions run ahead
of or behind token counts by an amount that only depends on the images read so far; a conversation's
KV cache carries it along (`rope_offset`), where the host keeps one number for the whole model.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor


def rope_positions(
    ids: Tensor, image_id: int, grid: tuple[int, int], start: int = 0
) -> tuple[Tensor, Tensor]:
    """(3, B, L) positions of `ids` (B, L) and the position after each sequence, (B,).

    Padding counts as words; it lies on the right, where no one looks.

    Args:
        grid: (h, w) tokens of one image. start: position of the first token.
    """
    rows, columns = grid
    image = ids == image_id  # (B, L)
    place = (image.cumsum(-1) - 1) % (rows * columns)  # of an image token in its image
    last = image & (place == rows * columns - 1)
    advance = torch.where(image, last.long() * max(rows, columns), 1)
    after = start + advance.cumsum(-1)
    base = after - advance
    row = torch.where(image, place // columns, 0)
    column = torch.where(image, place % columns, 0)
    return torch.stack([base, base + row, base + column]), after[:, -1]


def read_positions(
    ids: Tensor, image_id: int, grid: tuple[int, int], past: Optional[object]
) -> Tensor:
    """(3, B, L) positions of tokens that follow those `past` has read; `past` learns the new
    offset.
    """
    if past is None:
        return rope_positions(ids, image_id, grid)[0]
    read = past.get_seq_length()
    positions, after = rope_positions(ids, image_id, grid, read + past.rope_offset)
    past.rope_offset = int(after[0]) - read - ids.shape[1]
    return positions
