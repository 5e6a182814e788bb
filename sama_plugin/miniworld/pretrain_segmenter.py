"""Pre-trains the mini SAM2 on the mini world, on one CPU core, and exports it as a packaged asset.

Stage "images" teaches masks from boxes, points and rough masks; stage "videos" teaches memory:
following a thing among look-alikes, saying that it is gone, finding it when it returns. Run by
`recipes/mini/segmenter.sh`; stopping and starting it again continues from the last checkpoint with
the same batches. Each stage prints a held-out curve.

    python -m sama_plugin.miniworld.pretrain_segmenter --work runs/segmenter
"""

from __future__ import annotations

import argparse
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sama_plugin.atomic import atomic_path
from sama_plugin.miniworld.rendered import RenderedClips
from sama_plugin.segment.sam2 import Sam2Segmenter
from sama_plugin.segment.sizes import MINI, build_sam2

SEED = 7
TRAIN_CLIPS, HELDOUT_CLIPS = 1200, 64
SAVE_SECONDS = 120


@dataclass(frozen=True)
class Stage:
    """How long and how fast one stage learns."""

    name: str
    steps: int
    peak: float
    warmup: int
    evaluate_every: int

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up, then a cosine to 2 % of the peak."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


IMAGES = Stage("images", steps=6000, peak=5e-4, warmup=200, evaluate_every=500)
VIDEOS = Stage("videos", steps=1800, peak=5e-4, warmup=60, evaluate_every=300)
DECODER_SCALE = 0.4
"""Rate of prompt encoder and mask decoder in stage "videos", relative to the memory modules."""
IMAGES_EVERY = 6


class Progress:
    """Everything a resumed run needs: modules, optimiser, generators, step; kept in one file,
    replaced atomically.
    """

    def __init__(self, path: Path, modules: nn.ModuleDict, groups: list[dict], seed: int):
        self.path, self.modules = path, modules
        self.optimizer = torch.optim.AdamW(
            groups, lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.rng = np.random.default_rng(seed)
        self.step, self._saved = 0, time.monotonic()
        if path.exists():
            self._load()

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=False)
        self.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])
        self.step = state["step"]
        print(f"continuing {self.path.name} at step {self.step}", flush=True)

    def save(self, force: bool = False) -> None:
        """Write a checkpoint if the last one is older than two minutes, or at once when forced."""
        if not force and time.monotonic() - self._saved < SAVE_SECONDS:
            return
        state = {
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
            "step": self.step,
        }
        with atomic_path(self.path) as partial:
            torch.save(state, partial)
        self._saved = time.monotonic()

    def update(self, loss: torch.Tensor, rate: float) -> None:
        """One optimiser step; each group's own `scale` multiplies the rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1


@contextmanager
def half_precision():
    """bfloat16 products with plain matrix attention, which on a CPU is far faster than the flash
    kernel's backward.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", dtype=torch.bfloat16):
        yield


def train_images(work: Path, train: RenderedClips, heldout: RenderedClips) -> Path:
    """Stage A; returns its checkpoint."""
    from sama_plugin.miniworld.segmenter_images import CellHeads, draw_images, image_step
    from sama_plugin.miniworld.segmenter_scores import image_scores

    torch.manual_seed(SEED)
    model = fresh_mini()
    heads = CellHeads(MINI.width)
    modules = nn.ModuleDict({"sam2": model, "heads": heads})
    learned = [p for name, p in modules.named_parameters() if not _is_memory(name)]
    progress = Progress(work / "images.pt", modules, [{"params": learned, "scale": 1.0}], SEED)
    started, first = time.monotonic(), progress.step
    while progress.step < IMAGES.steps:
        batch = draw_images(train, progress.rng)
        side = 64 if progress.step < 0.7 * IMAGES.steps else 128
        with half_precision():
            loss, losses = image_step(model, heads, batch, side)
        progress.update(loss, IMAGES.rate(progress.step))
        progress.save()
        if progress.step % 50 == 0:
            speed = (time.monotonic() - started) / (progress.step - first)
            print(
                f"images {progress.step} loss {loss.item():.3f} mask {losses.mask.item():.3f} "
                f"iou {losses.iou.item():.3f} score {losses.score.item():.3f} {speed * 1e3:.0f} ms",
                flush=True,
            )
        if progress.step % IMAGES.evaluate_every == 0:
            print(f"images {progress.step} held-out {image_scores(model, heldout)}", flush=True)
            export(model, work / "segmenter.safetensors")
    progress.save(force=True)
    return progress.path


def train_videos(work: Path, train: RenderedClips, heldout: RenderedClips) -> None:
    """Stage B, from the end of stage A; exports the finished segmenter."""
    from sama_plugin.miniworld.segmenter_images import CellHeads, draw_images, image_step
    from sama_plugin.miniworld.segmenter_scores import image_scores, tracking_scores
    from sama_plugin.miniworld.segmenter_videos import draw_videos, video_step

    torch.manual_seed(SEED + 1)
    model, heads = fresh_mini(), CellHeads(MINI.width)
    modules = nn.ModuleDict({"sam2": model, "heads": heads})
    modules.load_state_dict(torch.load(work / "images.pt", weights_only=False)["modules"])
    segmenter = Sam2Segmenter("mini", model)
    model.requires_grad_(True)
    _freeze_encoder(model)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if _is_memory(name)], "scale": 1.0},
        {"params": [p for name, p in named if not _is_memory(name)], "scale": DECODER_SCALE},
    ]
    progress = Progress(work / "videos.pt", modules, groups, SEED + 1)
    started, first = time.monotonic(), progress.step
    while progress.step < VIDEOS.steps:
        rng, step = progress.rng, progress.step
        with half_precision():
            loss, losses = video_step(segmenter, draw_videos(train, rng), rng)
            if step % IMAGES_EVERY == 0:
                loss = loss + image_step(model, heads, draw_images(train, rng), 128)[0]
        progress.update(loss, VIDEOS.rate(step))
        progress.save()
        if progress.step % 50 == 0:
            speed = (time.monotonic() - started) / (progress.step - first)
            print(
                f"videos {progress.step} loss {loss.item():.3f} mask {losses.mask.item():.3f} "
                f"iou {losses.iou.item():.3f} score {losses.score.item():.3f} {speed * 1e3:.0f} ms",
                flush=True,
            )
        if progress.step % VIDEOS.evaluate_every == 0:
            scores = (
                f"{image_scores(model, heldout)} {tracking_scores(segmenter, heldout, count=8)}"
            )
            print(f"videos {progress.step} held-out {scores}", flush=True)
            export(model, work / "segmenter.safetensors")
    progress.save(force=True)
    print(
        f"final held-out {image_scores(model, heldout)} {tracking_scores(segmenter, heldout)}",
        flush=True,
    )
    export(model, work / "segmenter.safetensors")


def _freeze_encoder(model: nn.Module) -> None:
    """The image encoder and the mask decoder's level projections, which belong to encoding."""
    model.image_encoder.requires_grad_(False)
    model.sam_mask_decoder.conv_s0.requires_grad_(False)
    model.sam_mask_decoder.conv_s1.requires_grad_(False)


def fresh_mini() -> nn.Module:
    """A random mini SAM2 whose memory fuser is awake (its released initial layer scale of 1e-6
    learns too slowly).
    """
    model = build_sam2(MINI)
    for layer in model.memory_encoder.fuser.layers:
        nn.init.constant_(layer.gamma, 0.1)
    return model


def export(model: nn.Module, path: Path) -> None:
    """Weights in float16, under Meta's names."""
    from safetensors.torch import save_file

    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata={"segmenter": "mini"})
        partial.chmod(0o644)


def _is_memory(name: str) -> bool:
    parts = ("memory_attention", "memory_encoder", "maskmem", "no_mem_pos", "obj_ptr", "no_obj")
    return any(part in name for part in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pre-train the mini segmenter.")
    parser.add_argument("--work", type=Path, required=True, help="folder of clips and checkpoints")
    parser.add_argument("--stage", choices=("images", "videos", "all"), default="all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train = RenderedClips(options.work, "train", TRAIN_CLIPS).fill()
    heldout = RenderedClips(options.work, "heldout", HELDOUT_CLIPS).fill()
    if options.stage in ("images", "all"):
        train_images(options.work, train, heldout)
    if options.stage in ("videos", "all"):
        train_videos(options.work, train, heldout)


if __name__ == "__main__":
    main()
