"""Pre-train the mini host on two CPU cores: learn to see and learn to talk side by side, then both
together, then export.

    python -m sama_plugin.miniworld.pretrain_host --stage vision --run /tmp/mini-host &
    python -m sama_plugin.miniworld.pretrain_host --stage talk --run /tmp/mini-host; wait
    python -m sama_plugin.miniworld.pretrain_host --stage join --run /tmp/mini-host

`vision` trains tower and projector to produce the tokens of `pretrain_facts`, `talk` trains the
decoder on such tokens, `join` takes both and goes on with the decoder on what the tower really sees
(each clip is looked at once, the tokens are kept). The run folder holds
rendered clips, a resumable checkpoint a stage and the log of held-out scores; the export goes to
the package's assets. The schedules run on minutes of training time rather than steps, so that the
recipe ends when it says it will on a slower or busy machine (the card tells how many steps that
was). Weights stay fp32, products run in bfloat16.
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
from sama_plugin.miniworld import pretrain_tracking as tracking
from sama_plugin.miniworld import pretrain_vision as vision
from sama_plugin.miniworld.crowds import RenderedCrowds
from sama_plugin.miniworld.export_host import export_host
from sama_plugin.miniworld.fast_attention import use_matrix_attention
from sama_plugin.miniworld.host import MINI, build_mini
from sama_plugin.miniworld.pretrain_facts import FactCodes
from sama_plugin.miniworld.rendered import RenderedClips

SAVE_EVERY = 150.0
STAGES = ("vision", "talk", "join")
TRACKING_WEIGHT = 1.0
CODE_WEIGHT = 3.0
SCALE = torch.tensor(STD).view(1, 3, 1, 1) * 255
SHIFT = torch.tensor(MEAN).view(1, 3, 1, 1) * 255


@dataclass
class Progress:
    """Where a run is: minutes spent and steps taken per stage, and every held-out score so far."""

    minutes: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    steps: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STAGES, 0))
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
        generator = torch.Generator().manual_seed(options.seed)
        words, table = vision.word_ids(self.tokenizer), self.model.get_input_embeddings().weight
        self.codes = FactCodes(table, words, options.seed)
        tracking.look_up_by_content(self.model.model.language_model, self.codes, generator)
        self.heads = vision.CellHeads(table.shape[1])
        self.tracking = torch.nn.ModuleDict(
            {
                "visual": tracking.ClassHeads(table.shape[1], tracking.TRACKS),
                "noun": tracking.ClassHeads(table.shape[1], tracking.NOUNS),
                "box": tracking.ClassHeads(table.shape[1], tracking.PLACES),
            }
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
        return [p for part in (self.model, self.heads, self.tracking) for p in part.parameters()]

    def features(self, frames: np.ndarray) -> torch.Tensor:
        """uint8 (N, 128, 128, 3) -> projected tokens (N, 64, C)."""
        pixels = (torch.from_numpy(frames).permute(0, 3, 1, 2).float() - SHIFT) / SCALE
        return self.model.model.get_image_features(pixel_values=pixels).pooler_output

    def pixels_of(self, batch: chat.ChatBatch) -> torch.Tensor:
        return self.features(batch.frames)

    def codes_of(self, batch: chat.ChatBatch) -> torch.Tensor:
        return self.codes(batch.cells)

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
                self.save(stage)
                saved = time.monotonic()
        self.save(stage)

    def vision_step(self) -> tuple[torch.Tensor, dict[str, float]]:
        """Tokens of frames against their facts: named by the words, and as codes."""
        sources = (self.train_clips, self.crowds, self.crowds)
        frames, cells = vision.sample_frames(sources, self.rng, self.options.frames)
        tokens = self.features(frames)
        named, scores = vision.cell_loss(self.heads(tokens, self.codes), cells)
        wanted = self.codes(cells)
        shown = cells.shape >= 0
        misses = (tokens - wanted).pow(2).mean(-1) / wanted[shown].var()
        missed = misses[shown].mean() + misses[~shown].mean()
        return named + CODE_WEIGHT * missed, {**scores, "codes": missed.item()}

    def talk_step(self) -> tuple[torch.Tensor, dict[str, float]]:
        """Conversations about facts, without the tower."""
        self._report_now_and_then("talk")
        batch = self._sample("talk")
        return self._conversation_loss(batch, self.codes.swayed(batch.cells))

    def join_step(self) -> tuple[torch.Tensor, dict[str, float]]:
        """Conversations about what the finished tower saw."""
        self._report_now_and_then("join")
        batch = self._sample("join")
        seen = np.stack([self.seen[clip, frame] for clip, frame in batch.shown])
        return self._conversation_loss(batch, torch.from_numpy(seen).float())

    def look(self) -> None:
        """Every train clip through the finished tower, once and for all: (clips, T, N, C) float16
        on disk.
        """
        shape = (*self.train_clips.frames.shape[:2], MINI.tokens_per_frame, MINI.width)
        path = self.folder / "seen.npy"
        if not path.exists():
            with atomic_path(path) as partial:
                seen = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
                for index, frames in enumerate(self.train_clips.frames):
                    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                        seen[index] = self.features(np.array(frames)).float().numpy()
                seen.flush()
        self.seen = np.load(path, mmap_mode="r")

    def _sample(self, stage: str) -> chat.ChatBatch:
        done = self.progress.minutes[stage] / getattr(self.options, f"{stage}_minutes")
        first = stage == "talk" and done < chat.FIRST_SHARE
        counts = chat.FIRST_COUNTS if first else chat.FRAME_COUNTS
        return chat.sample_chat(
            self.train_clips, self.encoder, self.rng, self.options.batch, counts
        )

    def _conversation_loss(self, batch: chat.ChatBatch, tokens: torch.Tensor):
        logits, targets, states = chat.answer_logits(self.model, batch, tokens)
        said = chat.chat_loss(logits, targets)
        right = (logits.argmax(-1) == targets).float().mean().item()
        visual = states[tracking.VISUAL_LAYER][batch.ids == self.model.config.image_token_id]
        tracked, scores = tracking.class_loss(self.tracking["visual"], visual, batch.tracks)
        places, facts = batch.nouns
        noun = states[tracking.NOUN_LAYER][places[:, 0], places[:, 1]]
        named, found = tracking.class_loss(self.tracking["noun"], noun, facts)
        places, facts = batch.boxes
        box = states[-1][places[:, 0], places[:, 1]]
        boxed, at = tracking.class_loss(self.tracking["box"], box, facts)
        keep = ("x_first", "motion", "history")
        scores = {name: scores[name] for name in keep if name in scores}
        scores |= {f"noun_{name}": value for name, value in found.items()}
        scores |= {f"box_{name}": value for name, value in at.items()}
        loss = said + TRACKING_WEIGHT * (tracked + named + boxed)
        return loss, {"said": said.item(), "tokens": right, **scores}

    def _report_now_and_then(self, stage: str) -> None:
        if self.progress.steps[stage] % 500 == 499:
            self.report(stage, 128)

    def report(self, stage: str, clips: int) -> dict:
        """Score held-out clips, print, and add to the curve."""
        questions = chat.held_out(self.held_clips, self.encoder, clips, 3)
        tokens = self.codes_of if stage == "talk" else self.pixels_of
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = chat.measure(self.model, self.tokenizer, self.held_clips, questions, tokens)
        scores = {"stage": stage, "step": self.progress.steps[stage], **scores}
        self.progress.curve.append(scores)
        said = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in scores.items())
        print("held-out " + " ".join(said), flush=True)
        return scores

    def save(self, stage: str) -> None:
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "tracking": self.tracking.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.bit_generator.state,
            "progress": vars(self.progress),
        }
        with atomic_path(self.folder / f"{stage}.pt") as path:
            torch.save(state, path)

    def resume(self, stage: str) -> None:
        """Go on with `stage`, or begin it; `join` begins with what the two others learnt."""
        path = self.folder / f"{stage}.pt"
        if not path.exists():
            if stage == "join":
                self._unite()
            return
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.tracking.load_state_dict(state["tracking"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["rng"]
        self.progress = Progress(**state["progress"])
        print(f"resumed at {self.progress.minutes} minutes", flush=True)

    def _unite(self) -> None:
        saw, talked = (
            torch.load(self.folder / f"{stage}.pt", weights_only=True) for stage in STAGES[:2]
        )
        eye = ("model.vision_tower.", "model.multi_modal_projector.")
        weights = {
            name: (saw if name.startswith(eye) else talked)["model"][name] for name in saw["model"]
        }
        self.model.load_state_dict(weights)
        self.heads.load_state_dict(saw["heads"])
        self.tracking.load_state_dict(talked["tracking"])
        for part, stage in ((saw, "vision"), (talked, "talk")):
            self.progress.minutes[stage] = part["progress"]["minutes"][stage]
            self.progress.steps[stage] = part["progress"]["steps"][stage]
            self.progress.curve += part["progress"]["curve"]


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
    parser.add_argument("--stage", choices=STAGES, required=True)
    parser.add_argument("--vision-minutes", type=float, default=30)
    parser.add_argument("--talk-minutes", type=float, default=45)
    parser.add_argument("--join-minutes", type=float, default=30)
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
    run.resume(options.stage)
    if options.stage == "join":
        renderer.join()
        run.look()
    steps = {"vision": run.vision_step, "talk": run.talk_step, "join": run.join_step}
    budget = getattr(options, f"{options.stage}_minutes")
    run.run_stage(options.stage, budget, steps[options.stage])
    renderer.join()
    if options.stage == "join":
        run.report("join", run.options.held_clips)
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
