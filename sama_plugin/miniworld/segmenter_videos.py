"""Stage B of the mini segmenter's pre-training: following things through short videos with memory.

A step follows three things in each of a few clips: the first frame (at times a second one) is
prompted, the rest is found through memories and pointers, with gradients through all frames. Clips
are read at stride 1 to 3 (fewer for the longer ones), half of them backwards; things that vanish
are drawn more often. The image encoder is frozen, and every few steps a batch of stage A keeps
single frames sharp. Used by `pretrain_segmenter.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sama_plugin.miniworld.rendered import RenderedClips
from sama_plugin.miniworld.segmenter_images import MIN_PIXELS, augment, normalise
from sama_plugin.miniworld.segmenter_losses import MaskLosses, mask_losses
from sama_plugin.miniworld.segmenter_prompts import PromptBatch, draw_prompts
from sama_plugin.segment.base import Decoded, FrameFeatures, Memory, Prompt, Recall
from sama_plugin.segment.following import ABSENT_LOGIT
from sama_plugin.segment.sam2 import Sam2Segmenter

OBJECTS = 3
LENGTHS = ((5, 5), (8, 3))
SECOND_PROMPT, VANISHING = 0.3, 8.0
KINDS = (("box", 2, 0.5), ("point", 1, 0.15), ("points", 4, 0.1), ("given", 1, 0.25))


@dataclass(frozen=True)
class VideoBatch:
    """L frames of each of B clips and M = B * OBJECTS things.

    pixels: (L * B, 3, S, S), frame-major. masks: (L, M, S, S) bool. prompted: frame numbers with a
    prompt, 0 first.
    prompts: one batch of M prompts for each of them, or None where the true mask is given. stride:
    of the source frames.
    """

    pixels: Tensor
    masks: Tensor
    prompted: tuple[int, ...]
    prompts: tuple[PromptBatch | None, ...]
    stride: int


@dataclass
class _Seen:
    memory: Memory
    pointer: Tensor


def draw_videos(clips: RenderedClips, rng: np.random.Generator) -> VideoBatch:
    """A random batch; all clips share length, stride and kind of prompt."""
    length, count = LENGTHS[int(rng.integers(len(LENGTHS)))]
    stride = int(rng.integers(1, 15 // (length - 1) + 1))
    frames, masks = [], []
    while len(frames) < count:
        drawn = _draw_clip(clips, length, stride, rng)
        if drawn is not None:
            frames.append(drawn[0])
            masks.append(drawn[1])
    stacked = np.concatenate(masks, 1)  # (L, M, S, S)
    prompted = [0]
    visible = np.flatnonzero((stacked.sum((2, 3)) >= MIN_PIXELS).all(1))
    if rng.random() < SECOND_PROMPT and len(visible) > 1:
        prompted.append(int(rng.choice(visible[1:])))
    kinds, slots, chances = zip(*KINDS)
    choice = int(rng.choice(len(kinds), p=chances))
    prompts = [
        None
        if kinds[choice] == "given"
        else draw_prompts(stacked[t], [kinds[choice]] * stacked.shape[1], slots[choice], rng)
        for t in prompted
    ]
    pixels = np.stack(frames, 1)  # (L, B, S, S, 3)
    return VideoBatch(
        pixels=normalise(pixels.reshape(-1, *pixels.shape[2:])),
        masks=torch.from_numpy(stacked),
        prompted=tuple(prompted),
        prompts=tuple(prompts),
        stride=stride,
    )


def _draw_clip(clips: RenderedClips, length: int, stride: int, rng):
    """Frames (L, S, S, 3) and masks (L, OBJECTS, S, S) of one clip, or None when nothing is seen on
    the first frame.
    """
    index = int(rng.integers(clips.ready))
    total = clips.frames.shape[1]
    start = int(rng.integers(total - (length - 1) * stride))
    times = start + stride * np.arange(length)
    if rng.random() < 0.5:
        times = times[::-1]
    visible = clips.visible[index][times]  # (L, S, S)
    areas = np.stack([np.bincount(v.ravel(), minlength=9)[1:9] for v in visible])  # (L, 8)
    things = np.flatnonzero(areas[0] >= MIN_PIXELS)
    if len(things) == 0:
        return None
    odds = np.where((areas[:, things] == 0).any(0), VANISHING, 1.0)
    chosen = rng.choice(things, OBJECTS, replace=len(things) < OBJECTS, p=odds / odds.sum())
    frames, visible = augment(clips.frames[index][times], visible, rng)
    return frames, np.stack([visible == thing + 1 for thing in chosen], 1)


def video_step(
    segmenter: Sam2Segmenter, batch: VideoBatch, rng: np.random.Generator
) -> tuple[Tensor, MaskLosses]:
    """Follow all things through the batch: the loss to minimise and the losses of the found frames
    for the log.
    """
    length, things = batch.masks.shape[:2]
    clips = batch.pixels.shape[0] // length
    with torch.no_grad():
        features = segmenter.encode(batch.pixels)
    owner = torch.arange(clips).repeat_interleave(OBJECTS)
    views = [features.rows(owner + t * clips) for t in range(length)]
    prompted: dict[int, _Seen] = {}
    loss = batch.pixels.new_zeros(())
    for t, prompts in zip(batch.prompted, batch.prompts):
        decoded = _prompt(segmenter, views[t], batch.masks[t], prompts)
        prompted[t] = _seen(segmenter, views[t], decoded, binarise=True)
        if prompts is not None:
            loss = loss + 0.3 * _losses([decoded], [batch.masks[t]]).total
    scale = batch.stride if rng.random() < 0.5 else 1
    visited: dict[int, _Seen] = {}
    found = []
    for t in range(length):
        if t in prompted:
            continue
        recall = _recall(segmenter, prompted, visited, t, scale)
        decoded = segmenter.decode(
            segmenter.condition(views[t], recall), Prompt(), memoryless=False
        )
        visited[t] = _seen(segmenter, views[t], decoded, binarise=False)
        found.append(decoded)
    losses = _losses(found, [batch.masks[t] for t in visited])
    return loss + losses.total, losses


def _prompt(segmenter, view: FrameFeatures, masks: Tensor, prompts: PromptBatch | None) -> Decoded:
    if prompts is None:
        return segmenter.adopt(view, masks[:, None])
    prompt = Prompt(torch.from_numpy(prompts.points), torch.from_numpy(prompts.labels))
    return segmenter.decode(view, prompt, stability_fallback=False)


def _seen(segmenter, view: FrameFeatures, decoded: Decoded, *, binarise: bool) -> _Seen:
    """Memory and pointer of a result; absent things are blanked as in tracking."""
    absent = (decoded.score <= 0).view(-1, 1, 1, 1)
    logits = decoded.logits.float()
    logits = torch.where(absent, torch.full_like(logits, ABSENT_LOGIT), logits)
    size = (segmenter.image_size, segmenter.image_size)
    wide = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    return _Seen(segmenter.remember(view, wide, decoded.score, binarise=binarise), decoded.pointer)


def _recall(
    segmenter, prompted: dict[int, _Seen], visited: dict[int, _Seen], t: int, scale: int
) -> Recall:
    """As in `segment/propagate.py`; pointer distances are counted in frames of the batch or of the
    source.
    """
    memories = [(0, seen.memory) for seen in prompted.values()]
    near = [u for u in visited if t - u < segmenter.memory_frames]
    memories += [(t - u, visited[u].memory) for u in near]
    pointers = [((t - u) * scale, seen.pointer) for u, seen in prompted.items() if u <= t]
    pointers += [((t - u) * scale, visited[u].pointer) for u in reversed(list(visited))]
    return Recall(tuple(memories), tuple(pointers), segmenter.pointer_limit)


def _losses(decoded: list[Decoded], masks: list[Tensor]) -> MaskLosses:
    return mask_losses(
        torch.cat([one.all_logits for one in decoded]),
        torch.cat([one.all_iou for one in decoded]),
        torch.cat([one.score for one in decoded])[:, None],
        torch.cat(masks).float(),
        score_weight=2.0,
    )
