"""Stage A of the mini segmenter's pre-training: masks of single frames from boxes, points and rough
masks.

A frame is encoded once and prompted six times. Small throw-away heads also ask the encoder's maps
directly what covers a cell and where its centre is; without them masks take several times as many
steps to lift off. Nothing of memory is
used: the embedding gets SAM2's learned "no memory" vector, as on a first frame. Used by
`pretrain_segmenter.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sama_plugin.miniworld.rendered import NO_THING, RenderedClips
from sama_plugin.miniworld.segmenter_losses import MaskLosses, mask_losses
from sama_plugin.miniworld.segmenter_prompts import PromptBatch, draw_prompts
from sama_plugin.miniworld.things import COLOURS, FRAMES, SHAPES, TEXTURES

IMAGES, OBJECTS = 8, 6
MIN_PIXELS = 16
SLOT_PLAN = ((1, 0.4), (2, 0.4), (4, 0.2))
KINDS = {
    1: (("point", 0.8), ("mask", 0.08), ("background", 0.12)),
    2: (("box", 0.75), ("points", 0.13), ("background", 0.12)),
    4: (("points", 0.75), ("box", 0.15), ("background", 0.1)),
}
CLASSES = (len(COLOURS), len(SHAPES), len(TEXTURES))
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass(frozen=True)
class ImageBatch:
    """B frames and M = B * OBJECTS prompts: pixels (B, 3, S, S) normalised, labels (B, S, S) uint8
    thing + 1, attributes (B, 8, 3) uint8, masks (M, S, S) bool, prompts.
    """

    pixels: torch.Tensor
    visible: np.ndarray
    attributes: np.ndarray
    masks: torch.Tensor
    prompts: PromptBatch


class CellHeads(nn.Module):
    """Reads the embedding (stride 16) and the finest map (stride 4); thrown away after
    pre-training.
    """

    def __init__(self, width: int):
        super().__init__()
        self.coarse = nn.Conv2d(width, sum(CLASSES) + 1, 1)
        self.fine = nn.Conv2d(width // 8, 3, 1)

    def forward(self, embedding: torch.Tensor, finest: torch.Tensor, batch: ImageBatch):
        """The mean of four losses: shown and attributes per coarse cell; shown and centre offset
        per fine cell.
        """
        coarse, fine = self.coarse(embedding).float(), self.fine(finest).float()
        count, _, rows, columns = coarse.shape
        labels = torch.from_numpy(batch.visible[:, 2::4, 2::4].astype(np.int64))  # (B, 32, 32)
        blocks = labels.view(count, rows, 4, columns, 4).amax((2, 4))  # (B, 8, 8)
        shown = blocks > 0
        loss = F.binary_cross_entropy_with_logits(coarse[:, -1], shown.float())
        table = torch.from_numpy(batch.attributes.astype(np.int64))  # (B, 8, 3)
        owner = torch.arange(count).view(-1, 1, 1).expand_as(blocks)[shown]
        classes = table[owner, blocks[shown] - 1]  # (X, 3)
        logits = coarse[:, :-1].permute(0, 2, 3, 1)[shown].split(CLASSES, -1)
        for logit, target in zip(logits, classes.T):
            loss = loss + 0.3 * F.cross_entropy(logit, target, ignore_index=NO_THING)
        inside = labels > 0
        loss = loss + F.binary_cross_entropy_with_logits(fine[:, 0], inside.float())
        offsets = fine[:, 1:].permute(0, 2, 3, 1)[inside]
        return loss + F.smooth_l1_loss(offsets, _offsets(labels)[inside])


def draw_images(clips: RenderedClips, rng: np.random.Generator) -> ImageBatch:
    """A random batch; frames are flipped, transposed and tinted a little."""
    slots = int(rng.choice([s for s, _ in SLOT_PLAN], p=[p for _, p in SLOT_PLAN]))
    names, chances = zip(*KINDS[slots])
    frames, visible, attributes, masks, kinds = [], [], [], [], []
    while len(frames) < IMAGES:
        index, time = rng.integers(clips.ready), rng.integers(FRAMES)
        labels = clips.visible[index, time]
        counts = np.bincount(labels.ravel(), minlength=2)[1:]
        things = np.flatnonzero(counts >= MIN_PIXELS) + 1
        if len(things) == 0:
            continue
        frame, labels = augment(clips.frames[index, time], labels, rng)
        frames.append(frame)
        visible.append(labels)
        attributes.append(clips.attributes[index])
        for kind in rng.choice(names, size=OBJECTS, p=chances):
            kinds.append(str(kind))
            background = kind == "background"
            masks.append(labels > 0 if background else labels == rng.choice(things))
    prompts = draw_prompts(np.stack(masks), kinds, slots, rng)
    targets = np.stack([m & (kind != "background") for m, kind in zip(masks, kinds)])
    return ImageBatch(
        pixels=normalise(np.stack(frames)),
        visible=np.stack(visible),
        attributes=np.stack(attributes),
        masks=torch.from_numpy(targets),
        prompts=prompts,
    )


def augment(frames: np.ndarray, labels: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray]:
    """(..., S, S, 3) and (..., S, S) with the same random flips and transposition; float32 frames,
    brightness varied.
    """
    for axis in (-1, -2):
        if rng.random() < 0.5:
            labels = np.flip(labels, axis)
            frames = np.flip(frames, axis - 1)
    if rng.random() < 0.5:
        labels, frames = labels.swapaxes(-1, -2), frames.swapaxes(-2, -3)
    tint = rng.uniform(0.92, 1.08, 3).astype(np.float32)
    return np.clip(frames * tint, 0, 255), np.ascontiguousarray(labels)


def normalise(frames: np.ndarray) -> torch.Tensor:
    """(B, S, S, 3) in 0..255 to (B, 3, S, S) float32 with ImageNet mean and deviation."""
    pixels = (np.asarray(frames, np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))


def image_step(
    model: nn.Module, heads: CellHeads, batch: ImageBatch, side: int
) -> tuple[torch.Tensor, MaskLosses]:
    """Forward pass of one batch: the loss to minimise and the mask losses for the log."""
    features = model.forward_image(batch.pixels)["backbone_fpn"]  # finest first
    auxiliary = heads(features[2], features[0], batch)
    logits, quality, score = decode_all(model, features, batch.prompts, OBJECTS)
    losses = mask_losses(logits, quality, score, batch.masks.float(), side)
    return losses.total + 0.5 * auxiliary, losses


def decode_all(model: nn.Module, features: list[torch.Tensor], prompts: PromptBatch, repeat: int):
    """All four mask logits (M, 4, s, s), predicted IoU (M, 4) and object scores (M, 1), without
    memory.
    """
    fine, middle, embedding = [level.repeat_interleave(repeat, 0) for level in features]
    embedding = embedding + model.no_mem_embed.view(1, -1, 1, 1)
    sparse, dense = embed_prompts(model, prompts)
    logits, quality, _, score = model.sam_mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        repeat_image=False,
        high_res_features=[fine, middle],
    )
    return logits, quality, score


def embed_prompts(model: nn.Module, prompts: PromptBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse (M, P + 1, C) and dense (M, C, h, w) embeddings; rough masks go through SAM2's own
    mask downsampling.
    """
    encoder = model.sam_prompt_encoder
    points = (torch.from_numpy(prompts.points), torch.from_numpy(prompts.labels))
    sparse, dense = encoder(points=points, boxes=None, masks=None)
    if prompts.has_rough.any():
        rows = torch.from_numpy(np.flatnonzero(prompts.has_rough))
        rough = torch.from_numpy(prompts.rough)[rows, None]
        given = encoder.mask_downscaling(model.mask_downsample(rough)).to(dense.dtype)
        dense = dense.clone().index_copy(0, rows, given)
    return sparse, dense


def _offsets(labels: torch.Tensor) -> torch.Tensor:
    """(B, h, w) thing labels to (B, h, w, 2) offsets (x, y) to that thing's visible centre, in
    quarters of the grid.
    """
    count, rows, columns = labels.shape
    one_hot = F.one_hot(labels, int(labels.max()) + 1).float()  # (B, h, w, K)
    grid = torch.stack(torch.meshgrid(torch.arange(columns), torch.arange(rows), indexing="xy"), -1)
    grid = grid.float()  # (h, w, 2)
    area = one_hot.sum((1, 2)).clamp(min=1)[..., None]  # (B, K, 1)
    centre = torch.einsum("bhwk,hwc->bkc", one_hot, grid) / area
    chosen = centre.gather(1, labels.view(count, -1, 1).expand(-1, -1, 2)).view(
        count, rows, columns, 2
    )
    return (chosen - grid) / (rows / 4)
