"""How often the segmenter encodes a frame: once, for any number of objects and turns.

    python benchmarks/encodes.py
    python benchmarks/encodes.py --frames 16 100 --objects 5 --turns 8

Random weights do: what is counted does not depend on them. Every object is taken for present, so
that each is followed through the whole clip. Beside the count stands what a predictor that tracks
one object at a time, and starts again with each answer, would encode. Exit code 1 if a clip of T
frames takes other than T encodes.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch

from sama_plugin.infer.grounding import Grounder
from sama_plugin.media.frames import plan_frames
from sama_plugin.media.video import open_video
from sama_plugin.miniworld.host import tiny_host
from sama_plugin.miniworld.lesson import mini_config
from sama_plugin.model.attach import SamaModel, attach

SIZE = 128


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 8, 32], help="clip lengths")
    parser.add_argument("--objects", type=int, default=3, help="objects in each answer")
    parser.add_argument("--turns", type=int, default=4, help="answers about each clip")
    options = parser.parse_args()
    sama = present_everywhere(attach(*tiny_host(), mini_config("seg.weights=random")))
    print(f"{'frames':>7}{'objects':>9}{'turns':>7}{'encodes':>9}{'a frame':>9}{'one by one':>12}")
    exact = True
    for frames in options.frames:
        encodes = count(sama, frames, options.objects, options.turns)
        apart = frames * options.objects * options.turns
        counted = f"{encodes:9}{encodes / frames:9.2f}{apart:12}"
        print(f"{frames:7}{options.objects:9}{options.turns:7}{counted}")
        exact = exact and encodes == frames
    return 0 if exact else 1


def count(sama: SamaModel, frames: int, objects: int, turns: int) -> int:
    """Segmenter encodes of a conversation with that many answers about a clip of noise."""
    random = np.random.default_rng(0)
    reader = open_video(random.integers(0, 255, (frames, SIZE, SIZE, 3), dtype=np.uint8))
    grounder = Grounder(sama, reader)
    plan = plan_frames(frames, sama.config.frames)
    for turn in range(turns):
        generator = torch.Generator().manual_seed(turn)
        states = torch.randn(objects, sama.modules.width, generator=generator)  # (S, C)
        for found in grounder.ground(states, None, plan):
            assert found.track.frames() == tuple(range(frames))
    encodes = grounder.encodes
    grounder.close()
    return encodes


@torch.no_grad()
def present_everywhere(sama: SamaModel) -> SamaModel:
    """The same model, sure that every object is on every frame."""
    for decoder in (sama.modules.mask_decoder, sama.segmenter.module.sam_mask_decoder):
        decoder.pred_obj_score_head.layers[-1].bias += 100
    return sama


if __name__ == "__main__":
    sys.exit(main())
