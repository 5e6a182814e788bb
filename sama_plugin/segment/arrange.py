"""What both SAM2 backends do to tensors around the network: squeeze frames, lay out tokens, place
pointers in time, read weights.

Nothing here knows either implementation. Used by `sam2.py` and `sam2_hf.py`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sama_plugin.errors import CheckpointError, ConfigError
from sama_plugin.segment.base import FrameFeatures, Prompt

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def squeezed(frames: np.ndarray, side: int) -> Tensor:
    """RGB uint8 (N, H, W, 3), squeezed to a square by PIL's bicubic filter and normalised ->
    (N, 3, side, side) float32.
    """
    from PIL import Image

    size = (side, side)
    if frames.shape[1:3] != size:
        squares = [np.asarray(Image.fromarray(frame).resize(size)) for frame in frames]
        frames = np.stack(squares) if squares else np.zeros((0, *size, 3), np.uint8)
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def tokens(levels: Tensor) -> Tensor:
    """(N, C, h, w) to (h*w, N, C)."""
    return levels.flatten(2).permute(2, 0, 1)


def resized(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (N, 1, H, W) at another size, antialiased as SAM2 does; the same tensor if it fits."""
    if tuple(masks.shape[-2:]) == tuple(size):
        return masks
    return F.interpolate(masks, size=size, mode="bilinear", align_corners=False, antialias=True)


def split_pointers(pointers: Sequence[Tensor], width: int) -> Tensor:
    """P pointers (N, C) as (P * C / width, N, width) tokens of memory width."""
    stacked = torch.stack(list(pointers))  # (P, N, C)
    split = stacked.shape[-1] // width
    return stacked.unflatten(-1, (split, width)).transpose(1, 2).flatten(0, 1)


def sine_places(steps: Tensor, width: int) -> Tensor:
    """Sines and cosines (P, width) of P places in time, wavelengths up to 10,000."""
    powers = torch.arange(width // 2, dtype=torch.float32, device=steps.device) // 2
    angles = steps[:, None] / 10000 ** (2 * powers / (width // 2))  # (P, width / 2)
    return torch.cat([angles.sin(), angles.cos()], -1)


def blank_row(features: FrameFeatures, prompt: Prompt) -> tuple[FrameFeatures, Prompt]:
    """One row of zeros like `features`, and a prompt of zero vectors if `prompt` has vectors.

    It is decoded in place of zero rows, so that a trained mask decoder gets zero gradients, not
    none.
    """
    embedding = features.embedding
    keys = {"device": embedding.device, "dtype": embedding.dtype}
    blank = FrameFeatures(
        torch.zeros(1, *embedding.shape[1:], **keys),
        features.position,
        tuple(torch.zeros(1, *level.shape[1:], **keys) for level in features.high_res),
    )
    if prompt.vectors is None:
        return blank, Prompt()
    return blank, Prompt(vectors=torch.zeros(1, *prompt.vectors.shape[1:], **keys))


def fingerprint(identity: str, state: Mapping[str, Tensor]) -> str:
    """Registry name and a hash of all weights, as in "mini:1f0c9a52b7e4"."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(key.encode())
        digest.update(value.detach().float().cpu().numpy().tobytes())
    return f"{identity}:{digest.hexdigest()[:12]}"


def read_weights(path: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors in float32: Meta's .pt, a .safetensors, or a folder of transformers.

    Raises:
        ConfigError: the file does not exist or cannot be read.
    """
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.exists():
        raise ConfigError(f"segmenter weights {path} do not exist; check `seg.weights`")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(str(path))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(
            f"segmenter weights {path} cannot be read ({type(error).__name__}: {error}); "
            "is the download complete?"
        ) from error
    table = state.get("model", state) if isinstance(state, Mapping) else {}
    named = isinstance(table, Mapping) and len(table) > 0
    if not named or not all(isinstance(value, Tensor) for value in table.values()):
        raise ConfigError(
            f"segmenter weights {path} hold no tensors by name; give the file of the weights"
        )
    return {name: value.float() for name, value in table.items()}


def load_into(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """`load_state_dict`, strictly, but with an error that is short: a SAM2 has hundreds of tensors.

    Raises:
        CheckpointError: names or shapes differ.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    wrong = [
        f"{name} {found.get(name, 'missing')} (expected {wanted.get(name, 'none')})"
        for name in {**wanted, **found}
        if found.get(name) != wanted.get(name)
    ]
    if wrong:
        raise CheckpointError(f"{len(wrong)} tensors differ: {', '.join(wrong[:3])}")
    module.load_state_dict(state)
