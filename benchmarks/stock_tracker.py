"""Our loop against the stock SAM2 video predictor: one object, same weights, same masks.

    python benchmarks/stock_tracker.py
    python benchmarks/stock_tracker.py --segmenter sam2.1_hiera_large --frames 100 --device cuda

Both follow one clicked object forward through a clip of noise, in one run, after a warm-up; the
last line is stock's time over ours. Masks must be identical, or the exit code is 1.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.segmenter_schedule import SIZE, Noise
from sama_plugin.segment.base import Prompt, Segmenter, build_segmenter
from sama_plugin.segment.following import STOCK, ObjectPrompt, TrackOptions
from sama_plugin.segment.propagate import propagate
from sama_plugin.segment.store import FeatureStore

CLICK = (40.0, 70.0)
LIKE_STOCK = TrackOptions(**{**vars(STOCK), "half_memory": True, "directions": ("forward",)})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--segmenter", default="mini", help="a Meta name of the segmenter registry")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    segmenter = build_segmenter(options.segmenter, "random")
    segmenter.to(options.device)
    predictor = stock_predictor(segmenter)
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    seconds, masks = {}, {}
    for frames in (2, options.frames):  # the first is the warm-up
        for name, follow in (("stock", stock), ("ours", ours)):
            start = clock()
            masks[name] = follow(predictor if name == "stock" else segmenter, frames, segmenter)
            seconds[name] = clock() - start
    for name, one in seconds.items():
        print(f"{name:6} {one:8.2f} s {options.frames / one:8.1f} frames/s")
    same = bool(((masks["stock"] > 0) == (masks["ours"] > 0)).all())
    gap = (masks["stock"] - masks["ours"]).abs().max()
    print(f"masks are {'identical' if same else 'DIFFERENT'}, logits differ by {gap:.1e} at most")
    print(f"ratio {seconds['stock'] / seconds['ours']:.2f} x")
    return 0 if same else 1


@torch.no_grad()
def ours(segmenter: Segmenter, frames: int, _: Segmenter) -> Tensor:
    """(T, H, W) logits at the video's size."""
    scale = segmenter.image_size / SIZE
    device = next(segmenter.module.parameters()).device
    points = torch.tensor([[CLICK]], device=device) * scale
    labels = torch.ones(1, 1, dtype=torch.int32, device=device)
    objects = [ObjectPrompt({0: Prompt(points=points, labels=labels)})]
    store = FeatureStore(segmenter, Noise(frames), batch=1)  # as stock, to the last bit
    found = {}
    for result in propagate(segmenter, store, objects, frames, options=LIKE_STOCK):
        found[result.frame] = wide(result.logits).cpu()
    return torch.stack([found[frame] for frame in range(frames)])


def stock(predictor, frames: int, segmenter: Segmenter) -> Tensor:
    """(T, H, W) logits of Meta's predictor."""
    pixels = segmenter.preprocess(Noise(frames).frames(range(frames)))
    loaded = (pixels, SIZE, SIZE)
    with mock.patch("sam2.sam2_video_predictor.load_video_frames", return_value=loaded):
        state = predictor.init_state("noise")
    predictor.add_new_points_or_box(state, 0, 1, points=[CLICK], labels=[1])
    found = {}
    for frame, _, logits in predictor.propagate_in_video(state):
        found[frame] = logits[0, 0].float().cpu()
    return torch.stack([found[frame] for frame in range(frames)])


def stock_predictor(segmenter: Segmenter):
    """Meta's predictor around a copy of the same network, with the switches its builder sets."""
    from sam2.sam2_video_predictor import SAM2VideoPredictor

    predictor = copy.deepcopy(segmenter.module)
    predictor.__class__ = SAM2VideoPredictor
    predictor.binarize_mask_from_pts_for_mem_enc = True
    predictor.sam_mask_decoder.dynamic_multimask_via_stability = True
    predictor.fill_hole_area, predictor.non_overlap_masks = 0, False
    predictor.clear_non_cond_mem_around_input = False
    predictor.add_all_frames_to_correct_as_cond = False
    return predictor.eval()


def wide(logits: Tensor) -> Tensor:
    """(1, 1, h, w) logits at the video's size (H, W)."""
    size = (SIZE, SIZE)
    return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)[0, 0]


if __name__ == "__main__":
    sys.exit(main())
