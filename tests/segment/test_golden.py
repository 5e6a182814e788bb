"""Our segmenter and loop against recorded outputs of Meta's video predictor and of SAMA's language
prompting.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sama_plugin.segment.base import Prompt
from sama_plugin.segment.following import RELEASED, STOCK, ObjectPrompt
from sama_plugin.segment.propagate import propagate
from sama_plugin.segment.store import FeatureStore

from .golden_cases import BACKENDS, Frames, cases, seg_head_of, segmenter_of

ROUNDED = "low_res_logits_bf16_memory"


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
        assert spec["frame"] not in prompts[spec["obj"]], "two prompts of one object on a frame"
        prompts[spec["obj"]][spec["frame"]] = stock_prompt(spec, case, segmenter)
    return [ObjectPrompt(frames) for frames in prompts.values()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_the_stock_video_predictor(sama_golden, backend):
    for case in cases(sama_golden, "sam2_stock_video"):
        for name, scenario in case.meta["scenarios"].items():
            segmenter = segmenter_of(case, backend, **scenario.get("weight_override", {}))
            follow(case, name, scenario, segmenter)
            if f"{name}.{ROUNDED}" in case.outputs:
                follow_with_half_memory(case, name, scenario, segmenter)
        case.finish()


def follow(case, name: str, scenario: dict, segmenter) -> None:
    """Every frame that the stock predictor visited; ours goes both ways from each prompt."""
    frames, objects = video(case), objects_of(scenario, case, segmenter)
    store, seen = FeatureStore(segmenter, frames), []
    for result in propagate(segmenter, store, objects, len(frames), options=STOCK):
        seen.append(result.frame)
        visit = first_visits(scenario).get(result.frame)
        if visit is None:
            continue
        size = case.meta["hyper"]["video_hw"]
        wide = F.interpolate(result.logits, size, mode="bilinear", align_corners=False)
        scores = result.score[:, None]
        found = {"logits": wide, "object_score_logits": scores, "obj_ptr": result.pointer}
        for part, value in found.items():
            key = f"{name}.{part}"
            case.near(value, case.outputs[key][visit], key)
    assert sorted(seen) == list(range(len(frames)))
    assert store.encodes == len(frames) == frames.read


def follow_with_half_memory(case, name: str, scenario: dict, segmenter) -> None:
    frames, objects = video(case), objects_of(scenario, case, segmenter)
    store, key = FeatureStore(segmenter, frames), f"{name}.{ROUNDED}"
    options = dataclasses.replace(STOCK, half_memory=True)
    for result in propagate(segmenter, store, objects, len(frames), options=options):
        visit = first_visits(scenario).get(result.frame)
        if visit is not None:
            case.near(result.logits[:, 0], case.outputs[key][visit], key, "atol_bf16_memory")


def first_visits(scenario: dict) -> dict[int, int]:
    """Frame to the first place where it was visited."""
    return {frame: i for i, frame in reversed([*enumerate(scenario["visited_frames"])])}


@pytest.mark.parametrize("backend", BACKENDS)
def test_language_vectors_equal_training_path(sama_golden, backend):
    for case in cases(sama_golden, "sa2va_seg_train"):
        segmenter = segmenter_of(case, backend)
        pixels = segmenter.preprocess(video(case).array)
        features = segmenter.encode(pixels)
        vectors = seg_head_of(case)(case.inputs["hidden_states"])
        frames, objects = len(pixels), len(vectors)
        case.close(pixels[:1], "frames_normalized_first")
        case.close(vectors, "language_tokens")
        for level, name in zip((*features.high_res, features.embedding), ("fpn0", "fpn1", "fpn2")):
            case.close(level, name)
        pairs = torch.arange(frames).repeat_interleave(objects)
        decoded = segmenter.decode(
            features.rows(pairs), Prompt(vectors=vectors.repeat(frames, 1)[:, None])
        )
        for found, name in (
            (decoded.all_logits, "low_res_multimasks"),
            (decoded.all_iou, "ious"),
            (decoded.logits[:, 0], "pred_masks"),
            (decoded.pointer, "obj_ptr"),
            (decoded.score[:, None], "object_score_logits"),
            (decoded.all_iou.argmax(1), "best_index"),
        ):
            case.close(found.unflatten(0, (frames, objects)), name)
        case.finish()


@pytest.mark.parametrize("backend", BACKENDS)
def test_language_vectors_equal_released_video_path(sama_golden, backend):
    for case in cases(sama_golden, "sa2va_seg_video"):
        segmenter = segmenter_of(case, backend)
        vectors = seg_head_of(case)(case.inputs["hidden_states"])
        case.close(vectors, "language_tokens")
        flags = case.meta["flags"]
        rounded = RoundedPixels(segmenter, flags["pixel_mean_bf16"], flags["pixel_std_bf16"])
        case.close(rounded.preprocess(video(case).array[:1]), "frames_preprocessed_first")
        for name, scenario in case.meta["scenarios"].items():
            frames = Frames(video(case).array[: scenario["frames"]])
            prompt = Prompt(vectors=vectors[scenario["object"]][None, None])
            objects = [ObjectPrompt({frame: prompt for frame in scenario["prompted_frames"]})]
            store = FeatureStore(rounded, frames)
            recorded = RecordedIous(segmenter)
            found = propagate(recorded, store, objects, len(frames), options=RELEASED)
            results = sorted(found, key=lambda result: result.frame)
            assert len(results) == len(frames) == store.encodes
            compare_scenario(case, name, results, recorded.of(results))
            if f"{name}.{ROUNDED}" in case.outputs:
                options = dataclasses.replace(RELEASED, half_memory=True)
                for result in propagate(segmenter, store, objects, len(frames), options=options):
                    wanted = case.outputs[f"{name}.{ROUNDED}"][result.frame]
                    near = result.logits[0]
                    case.near(near, wanted, f"{name}.{ROUNDED}", "atol_bf16_memory")
        case.finish()


def compare_scenario(case, name: str, results, ious) -> None:
    logits = torch.cat([result.logits for result in results])  # (T, 1, s, s)
    found = {
        "low_res_logits": logits,
        "mask_logits": logits,
        "object_score_logits": torch.stack([result.score for result in results]),
        "obj_ptr": torch.cat([result.pointer for result in results]),
        "ious": ious,
        "best_index": ious.argmax(1),
    }
    for part, value in found.items():
        wanted = case.outputs.get(f"{name}.{part}")
        if wanted is None:
            continue
        if part == "mask_logits":
            value = F.interpolate(value, wanted.shape[-2:], mode="bilinear", align_corners=False)
        case.close(value, f"{name}.{part}")


class RecordedIous:
    """The segmenter, keeping the qualities of all candidates by the chosen one's."""

    def __init__(self, segmenter):
        self._segmenter, self._seen = segmenter, {}

    def __getattr__(self, name: str):
        return getattr(self._segmenter, name)

    def decode(self, *args, **options):
        decoded = self._segmenter.decode(*args, **options)
        self._seen.update(zip(decoded.iou.tolist(), decoded.all_iou))
        return decoded

    def of(self, results) -> torch.Tensor:
        """(T, 3)."""
        return torch.stack([self._seen[result.iou.item()] for result in results])


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
