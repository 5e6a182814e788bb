"""Frames to a vision tower's input: direct bicubic square resize, the tower's normalisation.

Frames are not tiled, cropped or padded and their aspect ratio is not kept (InternVL's video path);
a region mask therefore needs the same square resize and nothing else, on every host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

from sama_plugin.errors import MediaError

if TYPE_CHECKING:
    import torch

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""(mean, std) of the families of vision towers; HALVES is SigLIP's and Qwen3-VL's."""


def square_pixels(
    frames: np.ndarray, size: int, statistics: Sequence[Sequence[float]]
) -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, size, size)."""
    import torch
    from PIL import Image

    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise MediaError(
            f"frames are uint8 (N, H, W, 3), found {frames.dtype} {frames.shape}; give what "
            "`VideoReader.frames` returns"
        )
    if frames.shape[1:3] != (size, size):
        square = np.zeros((len(frames), size, size, 3), np.uint8)
        for row, frame in zip(square, frames):
            row[:] = Image.fromarray(frame).resize((size, size), Image.BICUBIC)
        frames = square
    values = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # (N, 3, S, S)
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in statistics)
    return (values.float() / 255 - mean) / std
