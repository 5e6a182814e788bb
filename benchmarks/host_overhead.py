"""What the plugin costs while it does nothing: an attached host, and the launcher before a script.

    python benchmarks/host_overhead.py
    python benchmarks/host_overhead.py --rounds 100 --hosts internvl qwen3_vl

Tiny random hosts of every family: the hooks are the same at any size, the arithmetic around them is
the least there can be, so the ratio is the worst one. In each round the bare and the attached
host forward the same frames and text, in turn first; of each the median is taken. The launcher
is started on a script that imports a Trainer and a host; what plain Python needs for the same
script is taken off, so what is left is what the plugin adds to the imports that the script makes
anyway. Exit code 1 if an attached host answers with other bits, or the launcher adds a second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sama_plugin.model.attach import attach
from tests.hosts.conformance import noise, segmenter
from tests.hosts.tiny import SIDE, TINY
from tests.model.conftest import tiny_config

FRAMES = 4
MARK = "script begins"
SCRIPT = f"""
import time

from transformers import AutoTokenizer, InternVLForConditionalGeneration, Trainer

print({MARK!r}, time.process_time(), flush=True)


def main():
    pass
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", nargs="+", choices=sorted(TINY), default=sorted(TINY))
    parser.add_argument("--rounds", type=int, default=40, help="forwards of each host")
    parser.add_argument("--starts", type=int, default=2, help="starts of the launcher")
    options = parser.parse_args()
    print(f"{'host':<18}{'bare ms':>9}{'attached ms':>13}{'ratio':>8}{'bits':>8}")
    exact = True
    for name in options.hosts:
        bare, held, same = compare(name, options.rounds)
        bits = "equal" if same else "OTHER"
        print(f"{name:<18}{bare * 1e3:9.2f}{held * 1e3:13.2f}{held / bare:8.3f}{bits:>8}")
        exact = exact and same
    seconds = launcher_seconds(options.starts)
    print(f"launcher: {seconds:.2f} CPU s beyond the script's own imports")
    return 0 if exact and seconds < 1 else 1


def compare(name: str, rounds: int) -> tuple[float, float, bool]:
    """Median seconds of a bare and of an attached forward, and whether their logits are equal."""
    calls = [forward(name, attached=False), forward(name, attached=True)]
    same = torch.equal(*(call() for call in calls))
    seconds: list[list[float]] = [[], []]
    for round_ in range(rounds):
        for which in (0, 1) if round_ % 2 else (1, 0):
            start = time.perf_counter()
            calls[which]()
            seconds[which].append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1]), same


def forward(name: str, attached: bool) -> Callable[[], torch.Tensor]:
    """One forward of a tiny host about `FRAMES` frames, worded as its adapter words it."""
    model, tokenizer = TINY[name].build()
    sama = attach(model, tokenizer, tiny_config(frame_side=SIDE), segmenter=segmenter())
    text = sama.adapter.visual_prefix(FRAMES, sama.modules.tokens, True) + "what is it?"
    ids = torch.tensor([tokenizer(text, add_special_tokens=False).input_ids])
    inputs: dict[str, Any] = TINY[name].native(model, ids, noise(FRAMES))
    if not attached:
        sama.detach()

    @torch.no_grad()
    def call() -> torch.Tensor:
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).logits

    return call


def launcher_seconds(starts: int) -> float:
    """Median CPU seconds from the start of the process to the end of the script's imports, beyond
    what plain Python needs for them (CPU, because reading the libraries from disk varies more).
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "does_nothing.py"
        script.write_text(SCRIPT)
        data = Path(folder) / "data.jsonl"
        data.write_text("")
        launched = ["-m", "sama_plugin", str(script), "--plugin", "sama"]
        ours = [_seconds_to_script([*launched, "--plugin.data", str(data)]) for _ in range(starts)]
        plain = [_seconds_to_script([str(script)]) for _ in range(starts)]
    return statistics.median(ours) - statistics.median(plain)


def _seconds_to_script(arguments: list[str]) -> float:
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith(MARK))
    return float(line.rpartition(" ")[2])


if __name__ == "__main__":
    sys.exit(main())
