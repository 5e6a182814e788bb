"""Frames to InternViT input: the square resize of `squares.py`, ImageNet normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sama_plugin.hosts.squares import IMAGENET, square_pixels

if TYPE_CHECKING:
    import numpy as np
    import torch

MEAN, STD = IMAGENET


def pixels(frames: np.ndarray, size: int) -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, size, size)."""
    return square_pixels(frames, size, IMAGENET)
