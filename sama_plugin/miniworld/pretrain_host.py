"""Pre-train the mini host on one CPU core: see first (stage V), then talk (stage VL), then export.

    python -m sama_plugin.miniworld.pretrain_host --run /tmp/mini-host

The run folder holds rendered clips, a resumable checkpoint and the log of held-out scores; the
export goes to the package's assets. The schedules run on minutes of training time rather than
steps, so that the recipe ends when it says it will on a slower or busy machine (the card tells how
many steps that was). Weights stay fp32, products run in bfloat16.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from sama_plugin.assets import asset
from sama_plugin.atomic import atomic_path
from sama_plugin.hosts.internvl.preprocess import MEAN, STD
from sama_plugin.miniworld import pretrain_chat as chat
from sama_plugin.miniworld import pretrain_vision as vision
from sama_plugin.miniworld.crowds import RenderedCrowds
from sama_plugin.miniworld.export_host import export_host
from sama_plugin.miniworld.fast_attention import use_matrix_attention
from sama_plugin.miniworld.host import build_mini
from sama_plugin.miniworld.rendered import RenderedClips

SAVE_EVERY = 150.0
SCALE = torch.tensor(STD).view(1, 3, 1, 1) * 255
SHIFT = torch.tensor(MEAN).view(1, 3, 1, 1) * 255


@dataclass
class Progress:
    """Where a run is: minutes spent and steps taken per stage, and every held-out score so far."""

    minutes: dict[str, float] = field(default_factory=lambda: {"vision": 0.0, "chat": 0.0})
    steps: dict[str, int] = field(default_factory=lambda: {"vision": 0, "chat": 0})
    curve: list[dict] = field(default_factory=list)


class Pretraining:
    """Model, optimiser, random stream and progress of one run; everything `save` writes, `resume`
    reads back.
    """

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.folder = Path(options.run)
        self.model, self.tokenizer = build_mini(options.seed)
        use_matrix_attention(self.model)
        vision.start_with_places(self.model)
        self.heads = vision.CellHeads(
            self.model.config.text_config.hidden_size, vision.word_ids(self.tokenizer)
        )
        self.encoder = chat.ChatEncoder(self.tokenizer)
        self.train_clips = RenderedClips(self.folder / "clips", "train", options.clips)
        self.held_clips = RenderedClips(self.folder / "clips", "heldout", options.held_clips)
        self.crowds = RenderedCrowds(self.folder / "clips", options.crowds)
        self.rng = np.random.default_rng(options.seed)
        self.progress = Progress()
        decayed = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim < 2]
        groups = [
            {"params": decayed, "weight_decay": 0.05},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98), fused=True)

    def parameters(self) -> list[torch.nn.Parameter]:
        return [*self.model.parameters(), *self.heads.parameters()]

    def features(self, frames: np.ndarray) -> torch.Tensor:
        """uint8 (N, 128, 128, 3) -> projected tokens (N, 64, C)."""
        pixels = (torch.from_numpy(frames).permute(0, 3, 1, 2).float() - SHIFT) / SCALE
        return self.model.model.get_image_features(pixel_values=pixels).pooler_output

    def features_with_frozen_tower(self, frames: np.ndarray) -> torch.Tensor:
        """The same tokens; gradients reach the projector only."""
        tower = self.model.model.vision_tower.requires_grad_(False)
        try:
            return self.features(frames)
        finally:
            tower.requires_grad_(True)

    def run_stage(self, stage: str, budget: float, step_once) -> None:
        """Repeat `step_once` for `budget` minutes with warm-up and cosine; report, save and resume
        on the way.
        """
        saved = time.monotonic()
        while self.progress.minutes[stage] < budget:
            start = time.process_time()
            done, steps = self.progress.minutes[stage] / budget, self.progress.steps[stage]
            for group in self.optimiser.param_groups:
                group["lr"] = (
                    self.options.lr * min(1, (steps + 1) / 150) * (0.02 + 0.98 * cosine(done))
                )
            self.optimiser.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss, scores = step_once()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(
                [p for p in self.parameters() if p.grad is not None], 1.0
            )
            self.optimiser.step()
            self.progress.steps[stage] += 1
            if steps % 50 == 0:
                said = " ".join(f"{name} {value:.3f}" for name, value in scores.items())
                minutes = self.progress.minutes[stage]
                print(
                    f"{stage} step {steps} at {minutes:.1f} min: loss {loss.item():.3f} {said}",
                    flush=True,
                )
            self.progress.minutes[stage] += (time.process_time() - start) / 60
            if time.monotonic() - saved > SAVE_EVERY:
                self.save()
                saved = time.monotonic()
        self.save()

    def vision_step(self) -> tuple[torch.Tensor, dict[str, float]]:
        frames, cells = vision.sample_frames(
            (self.train_clips, self.crowds, self.crowds), self.rng, self.options.frames
        )
        logits = self.heads(self.features(frames), self.model.get_input_embeddings().weight)
        return vision.cell_loss(logits, cells)

    def chat_step(self) -> tuple[torch.Tensor, dict[str, float]]:
        if self.progress.steps["chat"] % 500 == 499:
            self.report(160)
        begun = self.progress.minutes["chat"] / self.options.chat_minutes < chat.FIRST_SHARE
        counts = chat.FIRST_COUNTS if begun else chat.FRAME_COUNTS
        batch = chat.sample_chat(
            self.train_clips, self.encoder, self.rng, self.options.batch, counts
        )
        logits, targets = chat.answer_logits(
            self.model, batch, self.features_with_frozen_tower(batch.frames)
        )
        right = (logits.argmax(-1) == targets).float().mean().item()
        return chat.chat_loss(logits, targets), {"tokens": right, "length": batch.ids.shape[1]}

    def report(self, clips: int) -> dict:
        """Score held-out clips, print, and add to the curve."""
        questions = chat.held_out(self.held_clips, self.encoder, clips, 3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = chat.measure(
                self.model, self.tokenizer, self.held_clips, questions, self.features
            )
        scores = {"step": self.progress.steps["chat"], **scores}
        self.progress.curve.append(scores)
        print("held-out " + " ".join(f"{k} {v:.3g}" for k, v in scores.items()), flush=True)
        return scores

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.bit_generator.state,
            "progress": vars(self.progress),
        }
        with atomic_path(self.folder / "checkpoint.pt") as path:
            torch.save(state, path)

    def resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["rng"]
        self.progress = Progress(**state["progress"])
        print(
            f"resumed at {self.progress.minutes} minutes, {self.progress.steps} steps", flush=True
        )


def cosine(done: float) -> float:
    """1 at the start, 0 at the end."""
    return 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--run", default="/tmp/mini-host", help="run folder; a run found there is resumed"
    )
    parser.add_argument(
        "--export", default=str(asset("")) + "/mini/host", help="where the finished host goes"
    )
    parser.add_argument("--vision-minutes", type=float, default=10)
    parser.add_argument("--chat-minutes", type=float, default=50)
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--crowds", type=int, default=1500)
    parser.add_argument("--held-clips", type=int, default=256)
    parser.add_argument("--frames", type=int, default=24, help="frames a vision step")
    parser.add_argument("--batch", type=int, default=8, help="clips a chat step")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    run = Pretraining(options)
    renderer = _render_beside(run)
    run.resume()
    run.run_stage("vision", options.vision_minutes, run.vision_step)
    renderer.join()
    run.run_stage("chat", options.chat_minutes, run.chat_step)
    run.report(run.options.held_clips)
    print(export_host(run.folder, Path(options.export), questions=3 * options.held_clips))


def _render_beside(run: Pretraining) -> multiprocessing.Process:
    """Fill both caches in a second process, and wait until the first clips are there."""
    renderer = multiprocessing.get_context("fork").Process(target=_render, args=(run,), daemon=True)
    renderer.start()
    while min(run.train_clips.ready, run.crowds.ready) < min(
        64, run.options.clips, run.options.crowds
    ):
        if renderer.exitcode:
            raise SystemExit(
                f"rendering clips into {run.folder} failed; its error is printed above"
            )
        time.sleep(1)
    return renderer


def _render(run: Pretraining) -> None:
    run.crowds.fill()
    run.held_clips.fill()
    run.train_clips.fill()


if __name__ == "__main__":
    main()
