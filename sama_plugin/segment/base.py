"""What the plugin asks of a segmenter: encode frames, decode masks from prompts, remember,
condition.

A segmenter is a frozen SAM2-class model behind this protocol. It holds no state of any video:
features, memories and pointers are values, kept by `segment/store.py` and `segment/propagate.py`,
so that frames are encoded once for all objects and turns. Objects are rows of a batch: every call
takes N rows and gives N rows. Backends are named in the registry "segmenters"; `build_segmenter` is
the one way to get one. Used by `model`, `infer` and the mini world.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sama_plugin.registry import Registry

_SAM2 = "sama_plugin.segment.sam2:build_named"
_HF_SAM2 = "sama_plugin.segment.sam2_hf:build_hf_named"
_RELEASED = tuple(
    f"{generation}_hiera_{size}"
    for generation in ("sam2", "sam2.1")
    for size in ("tiny", "small", "base_plus", "large")
)
SEGMENTERS = Registry(
    "segmenters",
    {
        **{name: _SAM2 for name in ("mini", *_RELEASED)},
        **{f"hf_{name}": _HF_SAM2 for name in ("mini", *_RELEASED)},
    },
)


@dataclass
class FrameFeatures:
    """Encoded frames, before any memory.

    embedding: (N, C, h, w), the coarsest level as the neck gives it, without "no memory" added.
    position: (1, C, h, w), the same for all rows.
    high_res: (N, C/8, 4h, 4w) and (N, C/4, 2h, 2w), finer levels as the mask decoder wants them.
    """

    embedding: Tensor
    position: Tensor
    high_res: tuple[Tensor, Tensor]

    def __len__(self) -> int:
        return self.embedding.shape[0]

    def rows(self, index: Tensor) -> FrameFeatures:
        """The frames of `index` (M,) long, in that order, repeats allowed."""
        return FrameFeatures(
            self.embedding[index], self.position, tuple(level[index] for level in self.high_res)
        )

    def expand(self, count: int) -> FrameFeatures:
        """One frame seen by `count` objects, without copying it."""
        return FrameFeatures(
            self.embedding.expand(count, -1, -1, -1),
            self.position,
            tuple(level.expand(count, -1, -1, -1) for level in self.high_res),
        )

    def to(self, *args, **kwargs) -> FrameFeatures:
        """All tensors moved or cast, as by `Tensor.to`."""
        return FrameFeatures(
            self.embedding.to(*args, **kwargs),
            self.position.to(*args, **kwargs),
            tuple(level.to(*args, **kwargs) for level in self.high_res),
        )

    @staticmethod
    def cat(parts: Sequence[FrameFeatures]) -> FrameFeatures:
        """Several batches of frames as one."""
        return FrameFeatures(
            torch.cat([part.embedding for part in parts]),
            parts[0].position,
            tuple(torch.cat(levels) for levels in zip(*(part.high_res for part in parts))),
        )


@dataclass
class Prompt:
    """What is asked of N frames; any combination of the three, or nothing at all ("the object you
    remember").

    points: (N, P, 2) float, (x, y) in pixels of the segmenter's input. labels: (N, P) int: 1
    inside, 0 outside, 2 and 3 first and second corner of a box, -1 not a point. mask: (N, 1, 4h,
    4w) float logits. vectors: (N, V, C) language tokens, appended after all other prompt tokens.
    """

    points: Optional[Tensor] = None
    labels: Optional[Tensor] = None
    mask: Optional[Tensor] = None
    vectors: Optional[Tensor] = None

    @staticmethod
    def box(corners: Tensor) -> Prompt:
        """Boxes (N, 4) as x0, y0, x1, y1 in pixels of the segmenter's input."""
        labels = torch.tensor([2, 3], dtype=torch.int32, device=corners.device)
        return Prompt(points=corners.reshape(-1, 2, 2), labels=labels.expand(len(corners), 2))

    @property
    def point_count(self) -> int:
        """P, with which SAM2 decides between one mask and three candidates."""
        return 0 if self.labels is None else self.labels.shape[1]


@dataclass
class Decoded:
    """Masks of N prompts, never blanked: what an absent object means is the caller's decision.

    logits: (N, 1, 4h, 4w), the chosen mask. all_logits: (N, M, 4h, 4w), all candidates (M is 1 or
    3). iou: (N,) and all_iou: (N, M), predicted quality in 0..1. score: (N,), object logit, present
    if positive. pointer: (N, C).
    """

    logits: Tensor
    all_logits: Tensor
    iou: Tensor
    all_iou: Tensor
    score: Tensor
    pointer: Tensor

    def rows(self, index: Tensor) -> Decoded:
        """The prompts of `index` (M,), in that order."""
        return Decoded(**{name: value[index] for name, value in vars(self).items()})

    @staticmethod
    def cat(parts: Sequence[Decoded]) -> Decoded:
        """Several batches of the same number of candidates as one."""
        return Decoded(
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])}
        )


@dataclass
class Memory:
    """What is kept of a frame for one object each.

    features: (N, C_m, h, w). position: (1, C_m, h, w), the same for all rows.
    """

    features: Tensor
    position: Tensor


@dataclass(frozen=True)
class Recall:
    """What a frame of N objects is conditioned on.

    memories: pairs (slot, memory), slot 0 for prompted frames and d for the frame d steps before
    (after, in reverse). pointers: pairs (steps, (N, C) pointer). span: the number of pointers that
    the distances are scaled by.
    """

    memories: tuple[tuple[int, Memory], ...]
    pointers: tuple[tuple[int, Tensor], ...]
    span: int


class Segmenter(Protocol):
    """A frozen SAM2-class model. All calls run on its device; gradients pass through where inputs
    or weights want them.

    id: name in the registry. fingerprint: id and a hash of the weights. image_size: S, side of the
    square input in pixels. prompt_dim: C. memory_frames: frames attended to, the prompted one
    included. pointer_limit: pointers attended to. module: the network.
    decoder_parameters_unused_by_vectors: names within a mask decoder copy that no vector-prompted
    decode touches.
    """

    id: str
    fingerprint: str
    image_size: int
    prompt_dim: int
    memory_frames: int
    pointer_limit: int
    module: nn.Module
    decoder_parameters_unused_by_vectors: tuple[str, ...]

    def preprocess(self, frames: np.ndarray) -> Tensor:
        """RGB uint8 (N, H, W, 3) to the network's input (N, 3, S, S) float32."""

    def encode(self, pixels: Tensor) -> FrameFeatures:
        """(N, 3, S, S) to features of N frames; N may be 0."""

    def embed_clicks(self, points: Tensor) -> Tensor:
        """Prompt tokens (N, C) of one positive click each, (N, 2) as (x, y) in pixels of the
        segmenter's input.
        """

    def decode(
        self,
        features: FrameFeatures,
        prompt: Prompt,
        *,
        memoryless: bool = True,
        mask_decoder: Optional[nn.Module] = None,
        multimask: Optional[bool] = None,
        stability_fallback: bool = True,
    ) -> Decoded:
        """Masks of N prompts on N frames; N may be 0.

        `memoryless` marks features that were not conditioned on memories. `mask_decoder` is used
        instead of the frozen one. `multimask` None leaves the choice to the number of points, as
        SAM2 does. `stability_fallback` replaces an unstable single mask by the best of three
        candidates.
        """

    def adopt(self, features: FrameFeatures, masks: Tensor) -> Decoded:
        """Given masks (N, 1, S, S) 0/1 as the result of their frames: logits of +-10 and a pointer;
        an empty mask is absent.
        """

    def remember(
        self, features: FrameFeatures, logits: Tensor, score: Tensor, *, binarise: bool
    ) -> Memory:
        """Memory of N results; logits (N, 1, S, S) at input size, score (N,); `binarise` cuts the
        mask at 0.
        """

    def condition(self, features: FrameFeatures, recall: Recall) -> FrameFeatures:
        """The same frames with an embedding that knows the memories."""

    def clone_mask_decoder(self) -> nn.Module:
        """A trainable copy of the mask decoder."""

    def to(self, *args, **kwargs) -> Segmenter:
        """Move or cast the module; returns itself."""


def build_segmenter(name: str, weights: Optional[str] = None) -> Segmenter:
    """The segmenter registered as `name`, frozen, on the CPU.

    `weights` is a checkpoint path (.pt or .safetensors); "random" for random weights; None for the
    packaged weights of the mini and an error for others.

    Raises:
        ConfigError: unknown name, missing weights, or weights of other sizes.
    """
    return SEGMENTERS.get(name)(name, weights)
