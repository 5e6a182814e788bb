"""What a frame costs: encoding it, against following one thing through it; and what that means for
follow-up questions.

    python benchmarks/frame_costs.py
    python benchmarks/frame_costs.py sam2.1_hiera_tiny sam2.1_hiera_large
    python benchmarks/frame_costs.py sam2.1_hiera_large --device cuda --repeats 20

A session encodes a clip once, a program without sessions once for each answer; following what the
answer names is new work in both. So on long clips, where the host's share is small, a follow-up
with masks is faster by (encoding + following) / following at most, whatever else is saved. Random
weights, one thing, as much to recall as the segmenter can: all its memories and pointers.
"""

from __future__ import annotations

import argparse
import time
from typing import Callable

import torch
from torch.nn import functional as F

from sama_plugin.segment.base import Prompt, Recall, Segmenter, build_segmenter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("segmenters", nargs="*", default=["mini"], help="names of the registry")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=1, help="the fastest of so many counts")
    options = parser.parse_args()
    print(f"{'ms a frame':24}{'encode':>9}{'recall':>9}{'decode':>9}{'remember':>10}{'bound':>8}")
    for name in options.segmenters:
        segmenter = build_segmenter(name, "random").to(options.device)
        encode, *follow = costs(segmenter, options.device, options.repeats)
        print(
            f"{name:24}{1e3 * encode:9.1f}{1e3 * follow[0]:9.1f}{1e3 * follow[1]:9.1f}"
            f"{1e3 * follow[2]:10.1f}{(encode + sum(follow)) / sum(follow):7.1f}x"
        )


@torch.no_grad()
def costs(segmenter: Segmenter, device: str, repeats: int) -> tuple[float, float, float, float]:
    """Seconds of encoding a frame, and of what one thing takes on it: attending to all that is
    remembered, decoding its mask, remembering it.
    """
    size = (segmenter.image_size, segmenter.image_size)
    pixels = torch.randn(1, 3, *size, device=device)
    features = segmenter.encode(pixels)
    decoded = segmenter.decode(features, Prompt(), memoryless=False)
    wide = F.interpolate(decoded.logits.float(), size, mode="bilinear", align_corners=False)
    memory = segmenter.remember(features, wide, decoded.score, binarise=False)
    slots, span = range(segmenter.memory_frames), segmenter.pointer_limit
    pointers = tuple((steps, decoded.pointer) for steps in range(1, span))
    recall = Recall(tuple((slot, memory) for slot in slots), pointers, span)
    steps: tuple[Callable[[], object], ...] = (
        lambda: segmenter.encode(pixels),
        lambda: segmenter.condition(features, recall),
        lambda: segmenter.decode(features, Prompt(), memoryless=False),
        lambda: segmenter.remember(features, wide, decoded.score, binarise=False),
    )
    encode, recalled, decode, remember = (fastest(step, device, repeats) for step in steps)
    return encode, recalled, decode, remember


def fastest(step: Callable[[], object], device: str, repeats: int) -> float:
    """Seconds of the fastest of `repeats` calls: of the processor, so that neighbours do not count,
    or on the wall where another device does the work.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    took = []
    for _ in range(repeats):
        began = clock()
        step()
        if device != "cpu":
            torch.cuda.synchronize()
        took.append(clock() - began)
    return min(took)


if __name__ == "__main__":
    main()
