"""Masks of several phrases: every frame encoded once for all of them, against once for each.

    python benchmarks/segmenter_schedule.py                                # an image, 6 phrases
    python benchmarks/segmenter_schedule.py --frames 200 --objects 10      # a clip, 10 objects
    python benchmarks/segmenter_schedule.py --segmenter sam2.1_hiera_large --device cuda

The released models (SAMA, Sa2VA) open a fresh state for each [SEG], encode its K prompted frames
twice and follow one object at a time: S * (T + K) encodes. Both schedules run here, on the same
modules with random weights, one after the other; the last line is the ratio of their times (CPU
seconds on a CPU, so that neighbours do not count). Both follow forward from the first K frames, as
released. Masks must agree, or the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Callable, Sequence

import numpy as np
import torch

from sama_plugin.segment.base import Prompt, Segmenter, build_segmenter
from sama_plugin.segment.following import RELEASED, ObjectPrompt
from sama_plugin.segment.propagate import propagate
from sama_plugin.segment.store import FeatureStore

PROMPTED = 5
SIZE = 128


class Noise:
    """A video of noise, made when it is read; only the frames asked for exist."""

    def __init__(self, frames: int):
        self.total = frames

    def __len__(self) -> int:
        return self.total

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        made = [np.random.default_rng(i).integers(0, 255, (SIZE, SIZE, 3)) for i in indices]
        return np.stack(made).astype(np.uint8)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1, help="T; 1 is an image")
    parser.add_argument("--objects", type=int, default=6, help="S, phrases with a mask")
    parser.add_argument("--segmenter", default="mini", help="a name of the segmenter registry")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    segmenter = build_segmenter(options.segmenter, "random")
    segmenter.to(options.device)
    objects = prompts(segmenter, options.objects, min(PROMPTED, options.frames), options.device)
    warm_up(segmenter, objects)
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    found = {}
    for name, schedule in (("each", one_by_one), ("all", together)):
        start = clock()
        masks, encodes = schedule(segmenter, objects, options.frames)
        found[name] = clock() - start, masks
        print(f"{name:5} {encodes:6} encodes {found[name][0]:9.2f} s")
    (slow, first), (fast, second) = found["each"], found["all"]
    agree = (first == second).float().mean().item()
    print(f"masks agree on {agree:.6f} of all pixels")
    print(f"ratio {slow / fast:.1f} x")
    return 0 if agree > 0.9999 else 1


def prompts(segmenter: Segmenter, objects: int, prompted: int, device: str) -> list[ObjectPrompt]:
    """Random [SEG] vectors on the first frames."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(objects, 1, 1, segmenter.prompt_dim, generator=generator).to(device)
    return [ObjectPrompt({t: Prompt(vectors=one) for t in range(prompted)}) for one in vectors]


@torch.no_grad()
def together(segmenter: Segmenter, objects: list, frames: int) -> tuple[torch.Tensor, int]:
    """Ours: (S, T, h, w) masks, and encodes."""
    store = FeatureStore(segmenter, Noise(frames))
    return follow(segmenter, store, objects, frames), store.encodes


@torch.no_grad()
def one_by_one(segmenter: Segmenter, objects: list, frames: int) -> tuple[torch.Tensor, int]:
    """As released: a fresh state for each object, prompted frames encoded twice."""
    masks, encodes = [], 0
    for one in objects:
        store = FeatureStore(segmenter, Noise(frames), batch=1)
        for frame in one.frames:
            segmenter.encode(segmenter.preprocess(store.reader.frames([frame])))
        masks.append(follow(segmenter, store, [one], frames))
        encodes += store.encodes + len(one.frames)
    return torch.cat(masks), encodes


def follow(segmenter: Segmenter, store: FeatureStore, objects: list, frames: int) -> torch.Tensor:
    masks = [[None] * frames for _ in objects]
    for result in propagate(segmenter, store, objects, frames, options=RELEASED):
        for row, number in enumerate(result.objects):
            masks[number][result.frame] = (result.logits[row, 0] > 0).cpu()
    return torch.stack([torch.stack(rows) for rows in masks])


def warm_up(segmenter: Segmenter, objects: list) -> None:
    one = [ObjectPrompt({0: objects[0].frames[0]})]
    schedules: tuple[Callable, ...] = (one_by_one, together)
    for schedule in schedules:
        schedule(segmenter, one, 1)


if __name__ == "__main__":
    sys.exit(main())
