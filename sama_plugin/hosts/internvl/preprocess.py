"""Frames to InternViT input: direct bicubic square resize, ImageNet normalisation.

Video frames are not tiled and their aspect ratio is not kept (upstream video path); a region mask
therefore needs the
same square resize and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def pixels(frames: np.ndarray, size: int) -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, size, size)."""
    import torch
    from PIL import Image

    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            f"frames should be uint8 (N, H, W, 3), found {frames.dtype} {frames.shape}"
        )
    if frames.shape[1:3] != (size, size):
        square = [Image.fromarray(frame).resize((size, size), Image.BICUBIC) for frame in frames]
        frames = (
            np.stack([np.asarray(image) for image in square])
            if square
            else np.zeros((0, size, size, 3), np.uint8)
        )
    values = (
        torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    )  # (N, 3, S, S)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return (values - mean) / std
