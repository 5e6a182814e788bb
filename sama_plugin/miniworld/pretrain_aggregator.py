"""Pre-trains the mini's aggregator, as SAMA's begins with InstructBLIP's: its context tokens learn
to hold what the question asks about before any language model reads them.

    python -m sama_plugin.miniworld.pretrain_aggregator --work /tmp/mini-aggregator

The mini host's tower is frozen and its decoder is not run: clips are looked at once
(`aggregator_clips`), questions are drawn anew at every step (`aggregator_questions`), and a readout
that is thrown away afterwards says what the tokens lack (`aggregator_readout`). The pass from
features and questions to tokens is the plugin's own (`SamaModules.slots`). The result is a file for
the setting `start_from`: `aggregator.*` and the region encoder's rows for it. Stopped and started
again it continues from its last checkpoint. `--blind` trains on empty frames instead: what the
words of the questions alone give away.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sama_plugin.assets import asset
from sama_plugin.atomic import atomic_path
from sama_plugin.data.batch import SamaBatch, empty_batch
from sama_plugin.data.questions import HostQuestions
from sama_plugin.dialog.wording import TextEncoder
from sama_plugin.hosts.internvl.preprocess import pixels
from sama_plugin.media.video import UNTIMED_FPS
from sama_plugin.miniworld.aggregator_clips import FULL, POINTINGS, THINGS, SeenClips
from sama_plugin.miniworld.aggregator_questions import CLASSES, Asked, facts, questions
from sama_plugin.miniworld.aggregator_readout import (
    HISTORY_WORDS,
    MOTION_WORDS,
    Facts,
    Reading,
    Readout,
    Things,
)
from sama_plugin.miniworld.fast_attention import use_matrix_attention
from sama_plugin.miniworld.host import MINI, load_mini
from sama_plugin.miniworld.lesson import mini_config
from sama_plugin.miniworld.pretrain_segmenter import Progress, Stage
from sama_plugin.miniworld.things import COLOURS, FPS, SHAPES
from sama_plugin.model.config import SamaConfig
from sama_plugin.model.sama import SamaModules
from sama_plugin.nn.focus import SHARPNESS, attention
from sama_plugin.nn.qformer import QFormer

ASSET = "mini/aggregator.safetensors"
KEPT = ("aggregator.", "region.visual_rows.", "region.shape_rows.")
"""What the file holds; the rest of the plugin starts as it always does."""
SEED = 11
CLIPS, TEST_CLIPS = 3712, 256
FIRST_TEST = 2_000_000
BATCH, PER_CLIP = 8, 8
STEPS, PEAK, WARMUP = 3400, 1.5e-3, 150
WORDS_SCALE = 3.0
"""Rate of the focus's words, which begin at zero, relative to the rest."""


@dataclass
class Lot:
    """A batch: what the aggregator is given, and what its tokens have to hold."""

    features: Tensor  # (NF, N, C)
    batch: SamaBatch
    facts: Facts
    things: Things
    asked: list[Asked]


class Words:
    """The host's words: questions to ids and embeddings. `scale` is that of the embeddings."""

    def __init__(self, model: nn.Module, tokenizer: object, config: SamaConfig):
        self.table = model.get_input_embeddings().weight.detach().float()
        self.scale = float(self.table.std())
        self._reader = HostQuestions(TextEncoder(tokenizer), config.aggregator.max_question)
        self._known: dict[str, tuple] = {}
        ids = [self._last(word, tokenizer) for word in (*MOTION_WORDS, *HISTORY_WORDS)]
        self.said = self.table[ids]

    def read(self, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids and kinds of a question."""
        if text not in self._known:
            question = self._reader.read(text)
            self._known[text] = (question.ids, question.kinds)
        return self._known[text]

    @staticmethod
    def _last(word: str, tokenizer: object) -> int:
        (token,) = tokenizer(word).input_ids
        return token


class Learner(nn.Module):
    """The plugin's modules with the readout.

    Args:
        config: sizes; no segmenter is built.
    """

    def __init__(self, config: SamaConfig, words: Words, frames: int, wide: bool = True):
        super().__init__()
        sizes = config.aggregator
        grid = (MINI.grid, MINI.grid)
        self.sama = SamaModules(config, MINI.width, grid, 1, None, words.scale)
        self.readout = Readout(
            words.said,
            words.scale,
            frames,
            sizes.temporal_queries * sizes.hidden,
            sizes.hidden,
            MINI.tokens_per_frame,
        )
        if wide:
            for part in (self.sama.aggregator.spatial, self.sama.aggregator.temporal):
                _start_wide(part.qformer)
        self.sama.requires_grad_(False)
        for name, parameter in self.sama.named_parameters():
            parameter.requires_grad_(name.startswith(KEPT) and ".output." not in name)

    def groups(self) -> list[dict]:
        """For the optimiser."""
        words = list(self.sama.aggregator.focus.words.parameters())
        own = {id(parameter) for parameter in words}
        learned = [p for p in self.parameters() if p.requires_grad and id(p) not in own]
        return [{"params": learned, "scale": 1.0}, {"params": words, "scale": WORDS_SCALE}]

    def read(self, lot: Lot, table: Tensor) -> Reading:
        """Context tokens of a batch, through the plugin's own pass, and what was on the way."""
        aggregator, caught = self.sama.aggregator, {}
        with (
            _caught(aggregator.spatial, caught, "spatial"),
            _caught(aggregator.focus, caught, "focus"),
        ):
            question = table[lot.batch.question_ids]
            _, tokens, _ = self.sama.slots(lot.features, lot.batch, question, None)
        (features, context, layout, sought), _ = caught["focus"]
        prompts = lot.batch.prompt_owner.shape[0]
        frames = tokens.shape[0] // prompts
        heard = aggregator.focus.words(context.mean(1))  # one window a prompt
        query = aggregator.focus.look(nn.functional.normalize(sought, dim=-1) * SHARPNESS) + heard
        shares = []
        first = 0
        for span in layout.samples:
            shares.append(
                attention(query[first : first + span.prompts], features[span.frames]).float()
            )
            first += span.prompts
        shares = torch.cat([one for one in shares if one.shape[0]])
        return Reading(
            tokens.float().unflatten(0, (prompts, frames)),
            context.flatten(1),
            shares,
            caught["spatial"][1],
        )


@contextmanager
def _caught(module: nn.Module, into: dict, name: str) -> Iterator[None]:
    """While it lasts, what goes in and out of a module is kept."""
    hook = module.register_forward_hook(
        lambda _, given, made: into.__setitem__(name, (given, made))
    )
    try:
        yield
    finally:
        hook.remove()


def _start_wide(qformer: QFormer) -> None:
    """BERT's spread of 0.02 suits widths near 1000; narrow layers learn sooner with a wider one."""
    for module in qformer.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.7 * module.in_features**-0.5)


def draw(
    seen: SeenClips,
    words: Words,
    rng: np.random.Generator,
    indices: Sequence[int],
    per_clip: int,
    blind: bool = False,
) -> Lot:
    """Fresh questions about some clips."""
    asked, owners, pointed = [], [], []
    for place, index in enumerate(indices):
        for one in questions(seen.clip(index), rng, per_clip):
            pointed += [(place, index, thing, len(asked)) for thing in one.pointed]
            asked.append(one)
            owners.append(place)
    tokens = np.stack([seen.tokens[index] for index in indices])  # (B, F, N, C)
    features = torch.from_numpy(tokens).float().flatten(0, 1)
    batch = _batch(seen, words, rng, owners, asked, pointed, len(indices))
    targets = _facts(seen, [indices[owner] for owner in owners], asked)
    features = torch.zeros_like(features) if blind else features
    return Lot(features, batch, targets, _things(seen, indices), asked)


def _batch(
    seen: SeenClips,
    words: Words,
    rng: np.random.Generator,
    owners: list[int],
    asked: list[Asked],
    pointed: list[tuple[int, int, int, int]],
    clips: int,
) -> SamaBatch:
    frames = len(seen.frames)
    batch = empty_batch(clips, MINI.tokens_per_frame, seen.side)
    batch.frame_owner = torch.arange(clips).repeat_interleave(frames)
    batch.frame_index = torch.from_numpy(np.tile(seen.frames, clips))
    rates = rng.choice([UNTIMED_FPS, FPS], clips, p=[0.8, 0.2])  # arrays have no clock, files do
    batch.frame_time = torch.from_numpy((seen.frames / rates[:, None]).reshape(-1)).float()
    batch.aggregator_rows = torch.arange(clips * frames)
    batch.prompt_owner = torch.tensor(owners)
    read = [words.read(one.text) for one in asked]
    length = max(len(ids) for ids, _ in read)
    rows = torch.zeros(3, len(read), length, dtype=torch.long)
    for number, (ids, kinds) in enumerate(read):
        rows[:, number, : len(ids)] = torch.tensor([ids, kinds, [1] * len(ids)])
    batch.question_ids, batch.question_kind = rows[0], rows[1]
    batch.question_mask = rows[2].bool()
    batch.region_prompt = torch.tensor([prompt for *_, prompt in pointed], dtype=torch.long)
    entries = []
    for region, (place, index, thing, _) in enumerate(pointed):
        way = int(rng.integers(POINTINGS))
        if seen.frame[index, thing, way] >= 0:
            entries.append((region, place, index, thing, way))
    at = [entry[2:] for entry in entries]
    batch.entry_owner = torch.tensor([entry[0] for entry in entries], dtype=torch.long)
    batch.entry_row = torch.tensor(
        [entry[1] * frames + int(seen.frame[entry[2:]]) for entry in entries], dtype=torch.long
    )
    batch.entry_weights, batch.entry_shape = (
        torch.from_numpy(np.stack([array[one] for one in at])).float() / FULL
        if at
        else torch.zeros(0, *array.shape[3:])
        for array in (seen.weights, seen.shape)
    )
    return batch


def _facts(seen: SeenClips, clips: list[int], asked: list[Asked]) -> Facts:
    classes, history, cover = defaultdict(list), [], []
    for index, one in zip(clips, asked):
        found, happened = facts(seen.clip(index), one.meant)
        for name in CLASSES:
            classes[name].append(found[name])
        history.append(happened)
        shown = seen.cover[index][list(one.meant)]  # (things, F, N)
        cover.append(shown.max(0) if one.meant else np.zeros_like(seen.cover[index, 0]))
    return Facts(
        {name: torch.tensor(values) for name, values in classes.items()},
        torch.tensor(history),
        torch.from_numpy(np.stack(cover)).float() / FULL,
    )


def _things(seen: SeenClips, indices: Sequence[int]) -> Things:
    """Every visible thing that has a name and one colour, by frame."""
    frame, look = [], []
    cover = [np.zeros((0, MINI.tokens_per_frame), np.uint8)]
    for place, index in enumerate(indices):
        shown = seen.cover[index]  # (THINGS, F, N)
        for number, thing in enumerate(seen.clip(index).things[:THINGS]):
            if thing.colour_after is not None or thing.nameless:
                continue
            same = [
                other
                for other, one in enumerate(seen.clip(index).things)
                if (one.colour, one.shape) == (thing.colour, thing.shape)
            ]
            here = np.flatnonzero(shown[number].any(-1))
            frame += (place * len(seen.frames) + here).tolist()
            kind = [list(COLOURS).index(thing.colour), SHAPES.index(thing.shape)]
            look += [kind] * len(here)
            cover.append(shown[same].max(0)[here])
    return Things(
        torch.tensor(frame, dtype=torch.long),
        torch.tensor(look, dtype=torch.long).reshape(-1, 2),
        torch.from_numpy(np.concatenate(cover)).float() / FULL,
    )


def train(
    learner: Learner, seen: SeenClips, words: Words, stage: Stage, path: Path, blind: bool = False
) -> Learner:
    """Train to the end of `stage`, from the checkpoint at `path` where there is one."""
    torch.manual_seed(SEED)
    progress = Progress(path, nn.ModuleDict({"learner": learner}), learner.groups(), SEED)
    began, first = time.process_time(), progress.step
    while progress.step < stage.steps:
        indices = progress.rng.integers(seen.ready, size=BATCH).tolist()
        lot = draw(seen, words, progress.rng, indices, PER_CLIP, blind)
        parts = learner.readout.loss(learner.read(lot, words.table), lot.facts, lot.things)
        progress.update(sum(parts.values()), stage.rate(progress.step))
        progress.save()
        if progress.step % 50 == 0:
            spent = (time.process_time() - began) / (progress.step - first)
            said = " ".join(f"{name} {part.item():.3f}" for name, part in parts.items())
            print(f"{stage.name} {progress.step} {said} {spent * 1e3:.0f} ms", flush=True)
    progress.save(force=True)
    return learner


@torch.no_grad()
def measure(
    learner: Learner, seen: SeenClips, words: Words, blind: bool = False
) -> dict[str, dict[str, float]]:
    """Scores by kind of question on every clip of `seen`, always the same questions.

    `motion`, `said` (by the fixed reader), `deed` (motion and every history), `count` are shares of
    right answers; `present` says of one or several things, or of none, which it is; `look` is the
    focus's weight on cells of what is asked about, `centre` the distance in pixels between the
    middles of the cells said and of the true ones, in frames that show it.
    """
    found: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for start in range(0, seen.ready, BATCH):
        rng = np.random.default_rng([SEED, start])
        indices = list(range(start, min(start + BATCH, seen.ready)))
        lot = draw(seen, words, rng, indices, PER_CLIP, blind)
        reading = learner.read(lot, words.table)
        for name, values, known in _scores(learner.readout, reading, lot.facts):
            for asked, value, here in zip(lot.asked, values.tolist(), known.tolist()):
                if here:
                    found[asked.kind][name].append(value)
    return {
        kind: {name: float(np.mean(values)) for name, values in scores.items()}
        for kind, scores in sorted(found.items())
    }


def _scores(
    readout: Readout, reading: Reading, facts: Facts
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, value (P,), whether there is one (P,))."""
    classes, history = readout.facts(reading.tokens)
    guess = {name: logits.argmax(-1) for name, logits in classes.items()}
    single = facts.classes["motion"] >= 0
    right = guess["motion"] == facts.classes["motion"]
    yield "motion", right.float(), single
    yield "said", (readout.said(reading.tokens)[0].argmax(-1) == facts.classes["motion"]), single
    bits = ((history > 0) == (facts.history > 0)).all(-1)
    yield "deed", (right & bits).float(), single
    happened = single & (facts.history > 0).any(-1)
    yield "deed with history", (right & bits).float(), happened
    count = facts.classes["count"]
    yield "count", (guess["count"] == count).float(), count >= 0
    yield "present", ((guess["count"] > 0) == (count > 0)).float(), count >= 0
    total = facts.cover.sum(-1)  # (P, F)
    seen = total > 0.2
    often = seen.sum(-1).clamp_min(1)
    on = (reading.shares * (facts.cover > 0)).sum(-1)
    yield "look", (on * seen).sum(-1) / often, seen.any(-1)
    said = readout.cells(reading.tokens / readout.scale).sigmoid()
    apart = (_middle(said) - _middle(facts.cover)).norm(dim=-1)  # (P, F)
    yield "centre", (apart * seen).sum(-1) / often, seen.any(-1) & single


def _middle(cells: Tensor) -> Tensor:
    """(..., N) weights to (..., 2) pixels."""
    step = MINI.image / MINI.grid
    place = torch.arange(cells.shape[-1])
    centre = torch.stack([place % MINI.grid, place // MINI.grid], -1) * step + step / 2
    return cells @ centre / cells.sum(-1, keepdim=True).clamp_min(1e-6)


def export(sama: SamaModules, path: Path) -> None:
    """The modules that were learned, in float16, under the plugin's own names."""
    from safetensors.torch import save_file

    tensors = {
        name: value.half().contiguous()
        for name, value in sama.state_dict().items()
        if name.startswith(KEPT)
    }
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata={"aggregator": "mini"})
        partial.chmod(0o644)


def table(scores: dict[str, dict[str, float]]) -> str:
    """Scores for people."""
    names = list(dict.fromkeys(name for one in scores.values() for name in one))
    rows = ["| asked | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for kind, one in scores.items():
        cells = (f"{one[name]:.3f}" if name in one else "" for name in names)
        rows.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("/tmp/mini-aggregator"))
    parser.add_argument("--export", type=Path, default=asset("") / ASSET)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--test-clips", type=int, default=TEST_CLIPS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--nameless", action="store_true", help="every second clip nameless")
    parser.add_argument("--blind", action="store_true", help="empty frames; nothing is exported")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = mini_config()
    model, tokenizer = load_mini()
    use_matrix_attention(model)
    words = Words(model, tokenizer, config)

    @torch.no_grad()
    def look(frames: np.ndarray) -> np.ndarray:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            shown = pixels(frames, MINI.image)
            tokens = model.model.get_image_features(pixel_values=shown).pooler_output
        return tokens.float().numpy()

    test = SeenClips(options.work, config, FIRST_TEST, options.test_clips).fill(look)
    seen = SeenClips(options.work, config, 0, options.clips, options.nameless).fill(look)
    torch.manual_seed(SEED)
    learner = Learner(config, words, len(seen.frames))
    name = "blind" if options.blind else "aggregator"
    stage = Stage(name, options.steps, PEAK, WARMUP, options.steps)
    train(learner, seen, words, stage, options.work / f"{name}.pt", options.blind)
    print(table(measure(learner, test, words, options.blind)), flush=True)
    if not options.blind:
        export(learner.sama, options.export)


if __name__ == "__main__":
    main()
