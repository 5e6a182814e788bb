"""What the plugin costs while it does nothing: an attached host beside a bare one.

    python benchmarks/host_overhead.py
    python benchmarks/host_overhead.py --rounds 100 --hosts internvl qwen3_vl

Tiny random hosts of every family, `internvl_chat` by the class that its tests use: the hooks are
the same at any size, the arithmetic around them is the least there can be, so the ratio is the
worst one. In each round the bare and the attached host forward the same frames and text, in turn
first; of each the median of CPU seconds is taken, which other jobs on the machine disturb least.
What the launcher adds is in `launcher_overhead.py`. Exit code 1 if an attached host answers with
other bits.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sama_plugin.model.attach import attach
from tests.hosts.conformance import noise, segmenter
from tests.hosts.internvl_chat.lookalike import internvl_chat, native
from tests.hosts.tiny import SIDE, TINY, TinyHost
from tests.model.conftest import tiny_config

FRAMES = 4
HOSTS = {**TINY, "internvl_chat": TinyHost(internvl_chat, native)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", nargs="+", choices=sorted(HOSTS), default=sorted(HOSTS))
    parser.add_argument("--rounds", type=int, default=40, help="forwards of each host")
    options = parser.parse_args()
    print(f"{'host':<18}{'bare ms':>9}{'attached ms':>13}{'ratio':>8}{'bits':>8}")
    exact = True
    for name in options.hosts:
        bare, held, same = compare(name, options.rounds)
        bits = "equal" if same else "OTHER"
        print(f"{name:<18}{bare * 1e3:9.2f}{held * 1e3:13.2f}{held / bare:8.3f}{bits:>8}")
        exact = exact and same
    return 0 if exact else 1


def compare(name: str, rounds: int) -> tuple[float, float, bool]:
    """Median CPU seconds of a bare and an attached forward, and whether their logits are equal."""
    calls = [forward(name, attached=False), forward(name, attached=True)]
    same = torch.equal(*(call() for call in calls))
    seconds: list[list[float]] = [[], []]
    for round_ in range(rounds):
        for which in (0, 1) if round_ % 2 else (1, 0):
            start = time.process_time()
            calls[which]()
            seconds[which].append(time.process_time() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1]), same


def forward(name: str, attached: bool) -> Callable[[], torch.Tensor]:
    """One forward of a tiny host about `FRAMES` frames, worded as its adapter words it."""
    model, tokenizer = HOSTS[name].build()
    sama = attach(model, tokenizer, tiny_config(frame_side=SIDE), segmenter=segmenter())
    text = sama.adapter.visual_prefix(FRAMES, sama.modules.tokens, True) + "what is it?"
    ids = torch.tensor([tokenizer(text, add_special_tokens=False).input_ids])
    inputs: dict[str, Any] = HOSTS[name].native(model, ids, noise(FRAMES))
    if not attached:
        sama.detach()

    @torch.no_grad()
    def call() -> torch.Tensor:
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).logits

    return call


if __name__ == "__main__":
    sys.exit(main())
