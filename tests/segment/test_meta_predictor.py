"""Our loop against Meta's own SAM2 video predictor, run here on the same random weights, at sizes
that no recorded case has.
"""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch

from benchmarks.stock_tracker import stock_predictor
from sama_plugin.segment.base import Prompt
from sama_plugin.segment.following import STOCK, ObjectPrompt
from sama_plugin.segment.propagate import propagate
from sama_plugin.segment.sizes import Sam2Sizes
from sama_plugin.segment.store import FeatureStore

from .golden_cases import BACKENDS, Frames
from .test_backends import random_state

SIDE, TOTAL = 96, 20
"""More frames than there are pointers (16), so that the oldest are forgotten."""

SIZES = Sam2Sizes(
    image_size=SIDE,
    embed_dim=8,
    heads=2,
    stages=(1, 2, 1, 1),
    global_blocks=(2,),
    windows=(4, 4, 4, 2),
    background=(3, 3),
    width=64,
    memory_width=16,
    memory_layers=1,
    memory_ffn=48,
    memory_frames=4,
)
BOX, DISC = [20.0, 10.0, 70.0, 60.0], np.hypot(*np.indices((SIDE, SIDE)) - 40) < 22
# Object, frame, what is known of it there.
PROMPTS = {
    "point": [(1, 0, {"points": [[30.0, 40.0]], "labels": [1]})],
    "three points": [(1, 0, {"points": [[30, 40], [70, 9], [33, 60]], "labels": [1, 0, 1]})],
    "box": [(1, 0, {"box": BOX})],
    "mask": [(1, 0, {"mask": DISC})],
    "two objects on a late frame": [(4, 17, {"mask": DISC}), (2, 17, {"box": BOX})],
    "two keyframes": [(1, 2, {"mask": DISC}), (1, 9, {"points": [[50.0, 50.0]], "labels": [1]})],
}


def noise() -> Frames:
    canvas = np.random.default_rng(2).integers(0, 256, (SIDE, SIDE + TOTAL, 3), dtype=np.uint8)
    return Frames(np.stack([canvas[:, t : t + SIDE] for t in range(TOTAL)]))


def theirs(segmenter, prompts) -> dict[int, torch.Tensor]:
    """{frame: logits (objects, 1, SIDE, SIDE)}: from the first prompt on, then back from it."""
    predictor = stock_predictor(segmenter)
    loaded = (segmenter.preprocess(noise().array), SIDE, SIDE)
    with mock.patch("sam2.sam2_video_predictor.load_video_frames", return_value=loaded):
        state = predictor.init_state("noise")
    for identity, frame, known in prompts:
        if "mask" in known:
            predictor.add_new_mask(state, frame, identity, known["mask"])
        else:
            predictor.add_new_points_or_box(state, frame, identity, **known)
    found, first = {}, min(frame for _, frame, _ in prompts)
    for reverse in (False, True):
        for frame, _, logits in predictor.propagate_in_video(state, first, reverse=reverse):
            found.setdefault(frame, logits)
    return found


def known_to_us(known) -> Prompt | torch.Tensor:
    if "mask" in known:
        return torch.from_numpy(known["mask"])[None, None].float()
    if "box" in known:
        return Prompt.box(torch.tensor([known["box"]]))
    labels = torch.tensor([known["labels"]], dtype=torch.int32)
    return Prompt(torch.tensor([known["points"]], dtype=torch.float32), labels)


@pytest.mark.parametrize(
    "name, generation", [("point", "2.0"), ("mask", "2.0"), *((name, "2.1") for name in PROMPTS)]
)
def test_followed_both_ways_equal_the_predictors(name, generation):
    sizes = replace(SIZES, generation=generation)
    state = random_state(sizes)
    meta = BACKENDS["meta"](sizes, state)
    wanted = theirs(meta, PROMPTS[name])
    assert wanted.keys() == set(range(TOTAL)) or "two keyframes" in name
    known: dict[int, dict] = {}
    for identity, frame, what in PROMPTS[name]:
        known.setdefault(identity, {})[frame] = known_to_us(what)
    objects = [ObjectPrompt(frames) for frames in known.values()]
    for make in BACKENDS.values():
        segmenter = make(sizes, state)
        options = replace(STOCK, half_memory=True)  # theirs are rounded
        store = FeatureStore(segmenter, noise())
        for result in propagate(segmenter, store, objects, TOTAL, options=options):
            wide = torch.nn.functional.interpolate(
                result.logits, (SIDE, SIDE), mode="bilinear", align_corners=False
            )
            torch.testing.assert_close(wide, wanted[result.frame], atol=2e-2, rtol=1e-3)
