"""Our loop against transformers' own SAM2 video predictor, run here on the same random weights."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch

from sama_plugin.segment.base import Prompt
from sama_plugin.segment.following import STOCK, ObjectPrompt
from sama_plugin.segment.propagate import propagate
from sama_plugin.segment.store import FeatureStore

from .test_backends import both
from .tiny import noise_video

TOTAL = 12
"""More frames than memory holds (7), so that the window slides."""


@pytest.fixture(autouse=True)
def their_predictor():
    """Skips, and says so, where transformers is older than its SAM2 video predictor."""
    import transformers

    if not hasattr(transformers, "Sam2VideoInferenceSession"):
        message = (
            f"transformers {transformers.__version__} has no Sam2VideoInferenceSession (4.56 has): "
            "our loop was NOT compared with transformers' video predictor"
        )
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)


def predictor(model, pixels, frame: int, points, labels) -> dict[int, tuple]:
    """{frame: (logits (1, 1, 4h, 4w), score)} of one object, forward from the prompted frame."""
    from transformers import Sam2VideoInferenceSession

    session = Sam2VideoInferenceSession(
        video=pixels, video_height=48, video_width=80, dtype=torch.float32
    )
    place = session.obj_id_to_idx(1)
    inputs = {
        "point_coords": torch.tensor([[points]], dtype=torch.float32),  # (1, 1, P, 2)
        "point_labels": torch.tensor([[labels]], dtype=torch.int32),  # (1, 1, P)
    }
    session.add_point_inputs(place, frame, inputs)
    session.obj_with_new_inputs = [1]
    with torch.no_grad():
        model(session, frame_idx=frame)
        return {
            seen.frame_idx: (seen.pred_masks, seen.object_score_logits.reshape(-1))
            for seen in model.propagate_in_video_iterator(session)
        }


@pytest.mark.parametrize("generation", ["2.0", "2.1"])
@pytest.mark.parametrize(
    "frame, points, labels",
    [
        (0, [[20.0, 20.0]], [1]),
        (3, [[20.0, 20.0], [50.0, 12.0]], [1, 0]),
        (2, [[4.0, 4.0], [40.0, 50.0]], [2, 3]),  # corners of a box
    ],
)
def test_points_followed_forward_equal_the_predictors(generation, frame, points, labels):
    ours = both(generation)[1]
    pixels = ours.preprocess(noise_video(TOTAL).array)
    wanted = predictor(ours.module, pixels, frame, points, labels)
    prompt = Prompt(torch.tensor([points]), torch.tensor([labels], dtype=torch.int32))
    store = FeatureStore(ours, noise_video(TOTAL))
    forward = replace(STOCK, directions=("forward",))
    found = propagate(ours, store, [ObjectPrompt({frame: prompt})], TOTAL, options=forward)
    seen = {one.frame: (one.logits, one.score) for one in found}
    assert seen.keys() == wanted.keys() == set(range(frame, TOTAL))
    for index, (logits, score) in wanted.items():
        torch.testing.assert_close(seen[index][0], logits, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(seen[index][1], score, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("generation", ["2.0", "2.1"])
def test_a_mask_and_a_point_followed_both_ways_equal_the_predictors(generation):
    from transformers import Sam2VideoInferenceSession

    ours, start = both(generation)[1], 5
    pixels = ours.preprocess(noise_video(TOTAL).array)
    side = ours.image_size
    mask, points = torch.zeros(1, 1, side, side), torch.tensor([[[20.0, 20.0]]])
    mask[..., 10:40, 20:50] = 1
    labels = torch.ones(1, 1, dtype=torch.int32)
    theirs = Sam2VideoInferenceSession(
        video=pixels, video_height=48, video_width=80, dtype=torch.float32
    )
    theirs.add_mask_inputs(theirs.obj_id_to_idx(1), start, mask)
    clicks = {"point_coords": points[None], "point_labels": labels[None]}
    theirs.add_point_inputs(theirs.obj_id_to_idx(2), start, clicks)
    theirs.obj_with_new_inputs = [1, 2]
    wanted = {}
    with torch.no_grad():
        ours.module(theirs, frame_idx=start)
        for reverse in (False, True):
            for one in ours.module.propagate_in_video_iterator(theirs, start, reverse=reverse):
                wanted.setdefault(one.frame_idx, (one.pred_masks, one.object_score_logits))
    objects = [ObjectPrompt({start: mask}), ObjectPrompt({start: Prompt(points, labels)})]
    store = FeatureStore(ours, noise_video(TOTAL))
    found = propagate(ours, store, objects, TOTAL, options=STOCK)
    seen = {one.frame: (one.logits, one.score) for one in found}
    assert seen.keys() == wanted.keys() == set(range(TOTAL))
    for index, (logits, score) in wanted.items():
        torch.testing.assert_close(seen[index][0], logits, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(seen[index][1], score.reshape(-1), atol=1e-3, rtol=1e-3)
