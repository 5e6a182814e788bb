"""Our segmenter and loop against recorded outputs of Meta's video predictor and of SAMA's language
prompting.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sama_plugin.segment.base import Prompt
from sama_plugin.segment.propagate import RELEASED, STOCK, ObjectPrompt, propagate
from sama_plugin.segment.store import FeatureStore

from .golden_cases import BACKENDS, Frames, cases, seg_head_of, segmenter_of


def assert_close(found, expected, tolerance: dict, atol: str = "atol") -> None:
    torch.testing.assert_close(found, expected, atol=tolerance[atol], rtol=tolerance["rtol"])


def video(case) -> Frames:
    return Frames(case.inputs["frames_uint8"].permute(0, 2, 3, 1).numpy())


def stock_prompt(spec: dict, case, segmenter):
    """A recorded prompt in network pixels, as the stock predictor scales it."""
    side = segmenter.image_size
    height, width = case.meta["hyper"]["video_hw"]
    scale = torch.tensor([side / width, side / height])
    if spec["kind"] == "mask":
        mask = case.inputs["prompt_mask"][None, None].float()
        mask = F.interpolate(
            mask, (side, side), mode="bilinear", align_corners=False, antialias=True
        )
        return (mask >= 0.5).float()
    if spec["kind"] == "box":
        return Prompt.box((torch.tensor(spec["box"]).view(2, 2) * scale).view(1, 4))
    return Prompt(
        points=(torch.tensor(spec["points"]) * scale)[None],
        labels=torch.tensor(spec["labels"], dtype=torch.int32)[None],
    )


def objects_of(scenario: dict, case, segmenter) -> list[ObjectPrompt]:
    prompts = {identity: {} for identity in scenario["object_ids_in_order"]}
    for spec in scenario["prompts"]:
        prompts[spec["obj"]][spec["frame"]] = stock_prompt(spec, case, segmenter)
    return [ObjectPrompt(frames) for frames in prompts.values()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_the_stock_video_predictor(sama_golden, backend):
    for case in cases(sama_golden, "sam2_stock_video"):
        for name, scenario in case.meta["scenarios"].items():
            segmenter = segmenter_of(case, backend, **scenario.get("weight_override", {}))
            frames = video(case)
            store = FeatureStore(segmenter, frames)
            found = propagate(
                segmenter, store, objects_of(scenario, case, segmenter), len(frames), options=STOCK
            )
            visits = {}
            for visit, frame in enumerate(scenario["visited_frames"]):
                visits.setdefault(frame, visit)
            seen = []
            for result in found:
                visit = visits[result.frame]
                seen.append(result.frame)
                wide = F.interpolate(
                    result.logits,
                    case.meta["hyper"]["video_hw"],
                    mode="bilinear",
                    align_corners=False,
                )
                for part, value in (
                    ("logits", wide),
                    ("object_score_logits", result.score[:, None]),
                    ("obj_ptr", result.pointer),
                ):
                    expected = case.outputs[f"{name}.{part}"][visit]
                    assert_close(value, expected, case.meta["tolerance"])
            assert sorted(seen) == list(range(len(frames)))
            assert store.encodes == len(frames) == frames.read


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_memory_equals_upstreams_rounding(sama_golden, backend):
    for case in cases(sama_golden, "sam2_stock_video"):
        scenario = case.meta["scenarios"]["two_objects_forward"]
        segmenter = segmenter_of(case, backend)
        frames = video(case)
        options = type(STOCK)(**{**vars(STOCK), "half_memory": True})
        objects = objects_of(scenario, case, segmenter)
        for result in propagate(
            segmenter, FeatureStore(segmenter, frames), objects, len(frames), options=options
        ):
            expected = case.outputs["two_objects_forward.low_res_logits_bf16_memory"][result.frame]
            assert_close(result.logits[:, 0], expected, case.meta["tolerance"], "atol_bf16_memory")


@pytest.mark.parametrize("backend", BACKENDS)
def test_language_vectors_equal_training_path(sama_golden, backend):
    for case in cases(sama_golden, "sa2va_seg_train"):
        segmenter = segmenter_of(case, backend)
        pixels = segmenter.preprocess(video(case).array)
        features = segmenter.encode(pixels)
        vectors = seg_head_of(case)(case.inputs["hidden_states"])
        frames, objects = len(pixels), len(vectors)
        tolerance = case.meta["tolerance"]
        assert_close(pixels[:1], case.outputs["frames_normalized_first"], tolerance)
        for level, name in zip((*features.high_res, features.embedding), ("fpn0", "fpn1", "fpn2")):
            assert_close(level, case.outputs[name], tolerance)
        pairs = torch.arange(frames).repeat_interleave(objects)
        decoded = segmenter.decode(
            features.rows(pairs), Prompt(vectors=vectors.repeat(frames, 1)[:, None])
        )
        shape = (frames, objects)
        assert_close(
            decoded.all_logits.unflatten(0, shape), case.outputs["low_res_multimasks"], tolerance
        )
        assert_close(decoded.all_iou.unflatten(0, shape), case.outputs["ious"], tolerance)
        assert_close(
            decoded.logits[:, 0].unflatten(0, shape), case.outputs["pred_masks"], tolerance
        )
        assert_close(decoded.pointer.unflatten(0, shape), case.outputs["obj_ptr"], tolerance)
        assert_close(
            decoded.score[:, None].unflatten(0, shape),
            case.outputs["object_score_logits"],
            tolerance,
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_language_vectors_equal_released_video_path(sama_golden, backend):
    for case in cases(sama_golden, "sa2va_seg_video"):
        segmenter = segmenter_of(case, backend)
        vectors = seg_head_of(case)(case.inputs["hidden_states"])
        flags = case.meta["flags"]
        rounded = RoundedPixels(segmenter, flags["pixel_mean_bf16"], flags["pixel_std_bf16"])
        for name, scenario in case.meta["scenarios"].items():
            frames = Frames(video(case).array[: scenario["frames"]])
            prompt = Prompt(vectors=vectors[scenario["object"]][None, None])
            objects = [ObjectPrompt({frame: prompt for frame in scenario["prompted_frames"]})]
            store = FeatureStore(rounded, frames)
            count = 0
            for result in propagate(segmenter, store, objects, len(frames), options=RELEASED):
                for part, value in (
                    ("low_res_logits", result.logits[0]),
                    ("object_score_logits", result.score),
                    ("obj_ptr", result.pointer[0]),
                ):
                    expected = case.outputs[f"{name}.{part}"][result.frame]
                    assert_close(value, expected, case.meta["tolerance"])
                count += 1
            assert count == len(frames) == store.encodes


class RoundedPixels:
    """The segmenter with the released video path's rounded mean and deviation."""

    def __init__(self, segmenter, mean, std):
        self.segmenter = segmenter
        self.mean, self.std = (torch.tensor(x).view(3, 1, 1) for x in (mean, std))

    def preprocess(self, frames: np.ndarray):
        return (torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std

    def encode(self, pixels):
        return self.segmenter.encode(pixels)


if __name__ == "__main__":
    pytest.main([__file__])
