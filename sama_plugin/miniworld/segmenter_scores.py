"""Held-out scores of the mini segmenter: single-frame IoU by kind of prompt, object-score accuracy,
tracking.

Frames and prompts are fixed by a seed of their own, so that curves of different runs can be
compared. Boxes are read as SAM2 reads them (single-mask token), points through the candidate with
the highest predicted IoU. Used by `pretrain_segmenter.py`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sama_plugin.miniworld.rendered import RenderedClips
from sama_plugin.miniworld.segmenter_images import MIN_PIXELS, decode_all, normalise
from sama_plugin.miniworld.segmenter_prompts import box_of, draw_prompts
from sama_plugin.segment.base import Prompt
from sama_plugin.segment.following import ObjectPrompt
from sama_plugin.segment.propagate import propagate
from sama_plugin.segment.sam2 import Sam2Segmenter
from sama_plugin.segment.store import FeatureStore

SLOTS = {"box": 2, "point": 1, "points": 4, "mask": 1, "background": 1}


@torch.no_grad()
def image_scores(model: nn.Module, clips: RenderedClips, seed: int = 0) -> str:
    """One frame of every clip, every thing on it: "box 0.9 point 0.8 ..." and how often the object
    score is right.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in SLOTS}
    right = []
    for index in range(clips.ready):
        time = int(rng.integers(clips.frames.shape[1]))
        labels = clips.visible[index, time]
        counts = np.bincount(labels.ravel(), minlength=2)
        things = [t for t in range(1, len(counts)) if counts[t] >= MIN_PIXELS]
        if not things:
            continue
        features = model.forward_image(normalise(clips.frames[index, time][None]))["backbone_fpn"]
        masks = np.stack([labels == thing for thing in things])
        for kind, slots in SLOTS.items():
            shown = masks if kind != "background" else np.stack([labels > 0] * len(things))
            prompts = draw_prompts(shown, [kind] * len(things), slots, rng)
            logits, quality, score = decode_all(model, features, prompts, len(things))
            right.append(((score[:, 0] > 0).numpy() == (kind != "background")).mean())
            best = (
                torch.zeros(len(things), dtype=torch.long)
                if slots > 1
                else quality[:, 1:].argmax(1) + 1
            )
            logits = logits[torch.arange(len(things)), best]
            found[kind].append(iou(logits, masks))
    means = {
        kind: np.concatenate(values).mean()
        for kind, values in found.items()
        if kind != "background"
    }
    return (
        " ".join(f"{kind} {value:.3f}" for kind, value in means.items())
        + f" score {np.mean(right):.3f}"
    )


@torch.no_grad()
def tracking_scores(segmenter: Sam2Segmenter, clips: RenderedClips, count: int = 0) -> str:
    """Things prompted by box, and by mask, on the first frame they are well seen on, followed both
    ways.

    J is the mean over objects of the mean IoU over all frames (two empty masks count 1); "gone" is
    how often the object score is right on frames where the object cannot be seen, "seen" where it
    can.
    """
    report = []
    for kind in ("box", "mask"):
        quality, gone, seen = [], [], []
        for index in range(count or clips.ready):
            store = FeatureStore(segmenter, _Frames(clips.frames[index]))
            truth = _things(clips.visible[index])  # (O, T, S, S)
            objects = [ObjectPrompt(_first_prompt(masks, kind)) for masks in truth]
            overlap = np.zeros(truth.shape[:2])
            for result in propagate(segmenter, store, objects, truth.shape[1]):
                masks = truth[list(result.objects), result.frame]
                overlap[list(result.objects), result.frame] = iou(result.logits[:, 0], masks)
                right = (result.score > 0).numpy() == masks.any((1, 2))
                seen.extend(right[masks.any((1, 2))])
                gone.extend(right[~masks.any((1, 2))])
            quality.extend(overlap.mean(1))
        report.append(
            f"{kind}-track J {np.mean(quality):.3f} "
            f"seen {np.mean(seen):.3f} gone {np.mean(gone):.3f}"
        )
    return " ".join(report)


def _things(visible: np.ndarray) -> np.ndarray:
    """(T, S, S) labels to (O, T, S, S) bool masks of things well seen on some frame."""
    masks = [visible == label for label in range(1, int(visible.max()) + 1)]
    return np.stack([m for m in masks if m.sum((1, 2)).max() >= 2 * MIN_PIXELS])


def _first_prompt(masks: np.ndarray, kind: str) -> dict:
    areas = masks.sum((1, 2))
    frame = int(np.argmax(areas >= min(2 * MIN_PIXELS, areas.max())))
    if kind == "mask":
        return {frame: torch.from_numpy(masks[frame]).float()[None, None]}
    return {frame: Prompt.box(torch.from_numpy(box_of(masks[frame])).view(1, 4))}


class _Frames:
    """A clip of the cache as a video reader."""

    def __init__(self, frames: np.ndarray):
        self.array = frames

    def __len__(self) -> int:
        return len(self.array)

    def frames(self, indices) -> np.ndarray:
        return np.asarray(self.array[list(indices)])


def iou(logits: torch.Tensor, masks: np.ndarray) -> np.ndarray:
    """(M, s, s) logits, upsampled bilinearly, against (M, S, S) bool masks -> (M,)."""
    wide = F.interpolate(
        logits[:, None].float(), masks.shape[-2:], mode="bilinear", align_corners=False
    )
    shown = wide[:, 0].numpy() > 0
    union = (shown | masks).sum((1, 2))
    return np.where(union == 0, 1.0, (shown & masks).sum((1, 2)) / np.maximum(union, 1))
