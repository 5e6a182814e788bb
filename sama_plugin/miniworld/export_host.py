"""Packs a pre-trained mini host: 16-bit weights, tokenizer, generation settings and a card with its
scores.

    python -m sama_plugin.miniworld.export_host --run /tmp/mini-host

Reads the checkpoint of stage join (also of a run still going on, so that an early host can be
tried). What is packed is loaded again and asked real questions through `generate`: the card's
scores are those of the files beside it, in greedy decoding, on held-out clips. Called at the end of
`pretrain_host.py`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import torch

from sama_plugin.assets import asset
from sama_plugin.atomic import atomic_dir
from sama_plugin.hosts.internvl.preprocess import pixels
from sama_plugin.miniworld import pretrain_chat as chat
from sama_plugin.miniworld.host import MINI, build_mini, load_mini
from sama_plugin.miniworld.rendered import RenderedClips

HELD_CLIPS = 256


def export_host(run: Path, folder: Path, questions: int) -> dict[str, float]:
    """Packs the checkpoint of `run` into `folder`; returns held-out greedy scores."""
    state = torch.load(run / "join.pt", weights_only=True)
    model, tokenizer = build_mini()
    model.load_state_dict(state["model"])
    with atomic_dir(folder) as target:
        model.half().save_pretrained(target)
        tokenizer.save_pretrained(target)
        clips = RenderedClips(run / "clips", "heldout", HELD_CLIPS).fill()
        scores = greedy_scores(*load_mini(target), clips, questions)
        (target / "card.md").write_text(card(state["progress"], scores, questions))
        for file in target.iterdir():
            file.chmod(0o644)
    return scores


@torch.no_grad()
def greedy_scores(model, tokenizer, clips: RenderedClips, questions: int) -> dict[str, float]:
    """Exact match of whole answers through `generate`, overall and per kind; `near` as in
    `chat.measure`.
    """
    asked = chat.held_out(clips, chat.ChatEncoder(tokenizer), HELD_CLIPS, 3)[:questions]
    hits = defaultdict(list)
    for (ids, labels, _), picked, index, turn in asked:
        prompt = ids[: next(i for i, label in enumerate(labels) if label != chat.IGNORE)]
        out = model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            pixel_values=pixels(clips.frames[index][picked], MINI.image),
        )
        said = tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)
        hits["all"].append(said == turn.answer)
        hits[turn.kind].append(said == turn.answer)
        if chat.numbers(turn.answer):
            hits["near"].append(chat.close(said, turn.answer))
    return {kind: sum(right) / len(right) for kind, right in hits.items()}


def card(progress: dict, scores: dict[str, float], questions: int) -> str:
    """The model card."""
    minutes, steps = progress["minutes"], progress["steps"]
    kinds = sorted(set(scores) - {"all", "near"})
    table = "\n".join(f"| {kind} | {scores[kind]:.3f} |" for kind in kinds)
    return f"""# Mini host

A native InternVL (`InternVLForConditionalGeneration`, Qwen2 decoder, 3.5 M parameters, fp16) that
sees 128x128 frames of the mini world, 64 tokens each, and talks about them. It knows nothing of
regions or masks.

- Data: procedural train clips and crowds of `sama_plugin.miniworld`, nothing else. Held-out clips
  hold combinations of look and motion that no train clip shows.
- See: {steps["vision"]} steps of 24 frames, {minutes["vision"]:.0f} CPU minutes.
  Tower and projector learn to write down what each visual token shows.
- Talk: {steps["talk"]} steps of 8 clips, {minutes["talk"]:.0f} CPU minutes.
  The decoder learns to talk about such facts; nouns and visual tokens are supervised inside it.
- Join: {steps["join"]} steps of 8 clips, {minutes["join"]:.0f} CPU minutes.
  The decoder goes on with what the tower really sees.
- Remake: `recipes/mini/host.sh` (two cores; schedules count CPU minutes, so another machine takes
  another number of steps).

Scores: {questions} questions about held-out clips, four uniform frames, greedy decoding, exact
match of the whole answer. "near": answers with numbers, each within one of the truth (places are
said on a 16 by 16 grid).

| kind | score |
|---|---|
| **all** | {scores["all"]:.3f} |
| near | {scores.get("near", float("nan")):.3f} |
{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("/tmp/mini-host"))
    parser.add_argument("--export", type=Path, default=asset("") / "mini" / "host")
    parser.add_argument("--questions", type=int, default=768)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(export_host(options.run, options.export, options.questions))


if __name__ == "__main__":
    main()
