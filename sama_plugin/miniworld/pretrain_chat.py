"""Stage VL of the mini host's pre-training: many questions about each clip, answered in one packed
conversation.

A sample is exactly what the host is given later: `Frame{i}: <img>...</img>` lines and a first
question in the first user message, further ChatML turns after it; only the assistant's words and
`<|im_end|>` are learnt. Packing some ten turns behind one set of frames lets every encoded frame
serve ten questions. The number of frames and their indices vary, four uniform ones most often.
`measure` scores single questions about held-out clips by exact match. Used by `pretrain_host.py`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from sama_plugin.hosts.internvl.prompt import visual_prefix
from sama_plugin.miniworld import language
from sama_plugin.miniworld.finding import BOX, finding_turns
from sama_plugin.miniworld.host import MINI
from sama_plugin.miniworld.pretrain_tracking import (
    NOUNS,
    PLACES,
    named_thing,
    noun_targets,
    place_targets,
    track_targets,
)
from sama_plugin.miniworld.pretrain_vision import Cells, clip_of, look_at
from sama_plugin.miniworld.rendered import RenderedClips
from sama_plugin.miniworld.things import FRAMES

IGNORE = -100
FIRST_COUNTS = {1: 0.5, 2: 0.25, 4: 0.25}
"""How often each number of frames is shown while looking things up is learnt (short and cheap)."""
FRAME_COUNTS = {1: 0.04, 2: 0.06, 3: 0.10, 4: 0.60, 5: 0.12, 6: 0.08}
"""The same afterwards."""
FIRST_SHARE = 0.15
"""Part of the stage that uses `FIRST_COUNTS`."""
UNIFORM_SHARE = 0.7
FINDING_SHARE = 0.4
"""Part of the conversations that say where things are, in boxes."""
TURNS = 12
AFTER_NAME = re.compile(r"( at the (start|end))?( do| move)?\?$")
"""What follows the name of a thing at the end of a question about it."""
TEXT_TOKENS = 260


@dataclass
class ChatBatch:
    """`ids`, `labels` (B, L) long, right-padded; `frames` uint8 (B * K, 128, 128, 3).

    `shown` says which frames they are, as (clip, index of a frame), `cells` what they show;
    `tracks` (B * K * N, classes) are the targets of visual tokens, `nouns` those of names: places
    (M, 2) as (row, token), and targets (M, classes); `boxes` those of `<box>` tokens.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    frames: np.ndarray
    shown: list[tuple[int, int]] | None = None
    cells: Cells | None = None
    tracks: torch.Tensor | None = None
    nouns: tuple[torch.Tensor, torch.Tensor] | None = None
    boxes: tuple[torch.Tensor, torch.Tensor] | None = None


class ChatEncoder:
    """Turns of a conversation -> ids and labels, in the host's own prompt form."""

    def __init__(self, tokenizer: object):
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        self.pad = tokenizer.pad_token_id
        self.box = tokenizer.convert_tokens_to_ids(BOX)

    def __call__(
        self, frames: int, turns: list[tuple[str, str]], budget: int
    ) -> tuple[list[int], list[int], list[int]]:
        """Whole turns while their text fits `budget` tokens, always at least one turn: ids, labels,
        and where each question has just named what it is about.
        """
        ids, labels, named, used = [], [], [], 0
        prefix = self._encode(visual_prefix(frames, MINI.tokens_per_frame, video=True))
        for question, answer in turns:
            opening = self._encode("<|im_start|>user\n") + ([] if ids else prefix)
            asked = self._encode(question) + self._encode("<|im_end|>\n<|im_start|>assistant\n")
            said = self._encode(answer) + self._encode("<|im_end|>")
            used += len(asked) + len(said)
            if ids and used > budget:
                break
            before = self._encode(AFTER_NAME.sub("", question))
            named.append(len(ids) + len(opening) + len(before) - 1)
            ids += opening + asked + said + self._encode("\n")
            labels += [IGNORE] * len(opening + asked) + said + [IGNORE]
        return ids, labels, named

    def _encode(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self._tokenizer(text).input_ids
        return self._known[text]


def sample_chat(
    clips: RenderedClips,
    encoder: ChatEncoder,
    rng: np.random.Generator,
    batch: int,
    counts: dict[int, float],
) -> ChatBatch:
    """Fresh conversations about `batch` random clips, one number of frames out of `counts`.

    Fewer than three frames do not show motion: then only questions that need none are asked.
    """
    count = int(rng.choice(list(counts), p=list(counts.values())))
    rows, frames, seen_at, shown, tracks = [], [], [], [], []
    places, facts, boxes = [], [], []
    for index in map(int, rng.integers(clips.ready, size=batch)):
        clip = clip_of(clips.split, int(index))
        finding = count > 2 and rng.random() < FINDING_SHARE
        if finding:
            turns = finding_turns(clip, rng, TURNS // 2)
        else:
            turns = language.chat_turns(clip, rng, TURNS if count > 2 else 3 * TURNS)
        if count < 3:
            still = [turn for turn in turns if turn.kind in language.STILL_KINDS]
            turns = still[:TURNS] or turns[:1]
        rows.append(encoder(count, [(t.question, t.answer) for t in turns], TEXT_TOKENS))
        picked = pick_frames(rng, count)
        frames.append(clips.frames[index][picked])
        seen_at += [(index, int(frame)) for frame in picked]
        visible = clips.visible[index][picked]
        shown += [(clip, int(frame), seen) for frame, seen in zip(picked, visible)]
        tracks.append(track_targets(clip, picked, visible))
        if finding:
            found = [thing for turn in turns for thing in turn.things]
            boxes.append((len(rows) - 1, rows[-1][0], place_targets(clip)[found]))
            continue
        table = noun_targets(clip, picked, visible)
        for place, turn in zip(rows[-1][2], turns):
            thing = named_thing(clip, turn)
            if thing is not None:
                places.append((len(rows) - 1, place))
                facts.append(table[thing])
    chat = collate(rows, frames, encoder.pad)
    chat.nouns = _stacked(places, facts, len(NOUNS))
    chat.boxes = _stacked(*_at_boxes(boxes, encoder.box), len(PLACES))
    chat.shown, chat.cells = seen_at, look_at(shown)
    chat.tracks = torch.from_numpy(np.concatenate(tracks)).flatten(0, 1)  # (B * K * N, heads)
    return chat


def _at_boxes(boxes: list, token: int) -> tuple[list, list]:
    """(row, token) of every `<box>` that the row still holds, and what is to be known there."""
    places, facts = [], []
    for row, ids, targets in boxes:
        at = [index for index, one in enumerate(ids) if one == token]
        places += [(row, index) for index in at]
        facts += list(targets[: len(at)])
    return places, facts


def _stacked(places: list, facts: list, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Places (M, 2) and targets (M, classes); M may be 0."""
    targets = np.array(facts, dtype=np.int64).reshape(-1, classes)
    return torch.tensor(places, dtype=torch.long).reshape(-1, 2), torch.from_numpy(targets)


def pick_frames(rng: np.random.Generator, count: int) -> np.ndarray:
    """Sorted frame indices: midpoints of equal segments most of the time, else one at random in
    each segment.
    """
    if rng.random() < UNIFORM_SHARE:
        return ((np.arange(count) + 0.5) * FRAMES / count).astype(int)
    edges = np.arange(count + 1) * FRAMES // count
    return rng.integers(edges[:-1], edges[1:])


def collate(rows: list, frames: list, pad: int) -> ChatBatch:
    """Pad on the right, to a multiple of 16."""
    length = -(-max(len(ids) for ids, *_ in rows) // 16) * 16
    ids = torch.full((len(rows), length), pad)
    labels = torch.full((len(rows), length), IGNORE)
    for row, (tokens, targets, _) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, : len(targets)] = torch.tensor(targets)
    return ChatBatch(ids, labels, np.concatenate(frames))


def answer_logits(
    model, batch: ChatBatch, features: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
    """Logits (A, V) and targets (A,) of the learnt positions, and the decoder's hidden states.

    `features` (B * K, N, C) fill the placeholders; the states are (B, L, C), the input first.
    """
    embeds = model.get_input_embeddings()(batch.ids)
    places = batch.ids == model.config.image_token_id
    embeds = embeds.masked_scatter(places[..., None], features.to(embeds.dtype))
    out = model.model.language_model(
        inputs_embeds=embeds, use_cache=False, output_hidden_states=True
    )
    targets = batch.labels[:, 1:]
    learnt = targets != IGNORE
    logits = model.lm_head(out.last_hidden_state[:, :-1][learnt])
    return logits, targets[learnt], out.hidden_states


def chat_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.float(), targets)


def held_out(clips: RenderedClips, encoder: ChatEncoder, count: int, per_clip: int) -> list[tuple]:
    """Fixed questions about held-out clips: (row, frame indices, clip index, turn), four uniform
    frames each.
    """
    picked = []
    midpoints = ((np.arange(4) + 0.5) * FRAMES / 4).astype(int)
    for index in range(min(count, clips.ready)):
        rng = np.random.default_rng([7, index])
        for turn in language.chat_turns(clip_of(clips.split, index), rng, per_clip)[:per_clip]:
            row = encoder(4, [(turn.question, turn.answer)], TEXT_TOKENS)
            picked.append((row, midpoints, index, turn))
    return picked


@torch.no_grad()
def measure(
    model, tokenizer, clips: RenderedClips, questions: list[tuple], features_of, batch: int = 16
) -> dict:
    """Exact match overall and per kind; `near`: among answers with numbers, all numbers within one
    of the truth.

    Every answer token is predicted from the true ones before it. All of them right is the same
    event as greedy decoding giving exactly this answer, at a tenth of the cost.
    """
    exact, near = defaultdict(list), []
    for start in range(0, len(questions), batch):
        part = questions[start : start + batch]
        rows = [row for row, *_ in part]
        frames = [clips.frames[index][picked] for _, picked, index, _ in part]
        chat = collate(rows, frames, tokenizer.pad_token_id)
        chat.cells = look_at(
            [
                (clip_of(clips.split, index), int(frame), clips.visible[index, frame])
                for _, picked, index, _ in part
                for frame in picked
            ]
        )
        logits, targets, _ = answer_logits(model, chat, features_of(chat))
        lengths = (chat.labels != IGNORE).sum(1).tolist()
        guesses = logits.argmax(-1).split(lengths)
        for (*_, turn), guess, target in zip(part, guesses, targets.split(lengths)):
            exact[turn.kind].append(bool((guess == target).all()))
            truth = tokenizer.decode(target)
            if numbers(truth):
                near.append(close(tokenizer.decode(guess), truth))
    scores = {kind: sum(hits) / len(hits) for kind, hits in sorted(exact.items())}
    every = [hit for hits in exact.values() for hit in hits]
    return {"all": sum(every) / len(every), "near": sum(near) / max(len(near), 1), **scores}


def numbers(text: str) -> list[int]:
    """The numbers in a sentence, in order."""
    return [int(digits) for digits in re.findall(r"\d+", text)]


def close(said: str, truth: str) -> bool:
    """Whether both hold as many numbers and each is within one of the truth."""
    pairs = list(zip(numbers(said), numbers(truth)))
    return len(numbers(said)) == len(numbers(truth)) and all(abs(a - b) < 2 for a, b in pairs)
