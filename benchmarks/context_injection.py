"""Context injection, literal against folded: time and peak memory of one training step.

    python benchmarks/context_injection.py                      # sizes of a 1B host, on the CPU
    python benchmarks/context_injection.py --width 4096 --prompts 4 --device cuda

Both forms run in this one run, each in a process of its own so that neither sees the other's
memory, on the same random numbers; the last line is the ratio (of CPU seconds on a CPU, so that
neighbours do not count). The largest difference of their results is printed too: they are the same
function (`sama_plugin/nn/injection.py`).
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from dataclasses import dataclass

import torch

from sama_plugin.nn.injection import ContextInjection
from sama_plugin.nn.layout import lay_out


@dataclass
class Measurement:
    """Best time of a step, peak memory above the inputs, and the result."""

    seconds: float
    mebibytes: float
    tokens: list


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = dict(frames=32, tokens=256, width=896, hidden=768, prompts=4, context=64, repeats=3)
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    found = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for form in ("literal", "folded"):
            found[form] = pool.apply(measure, (form, options))
    print(
        f"{options.prompts} prompts x {options.frames} frames x {options.tokens} tokens, ", end=""
    )
    print(f"width {options.width}, {options.context} context rows, fp32, {options.device}")
    for form, one in found.items():
        print(f"{form:8} {one.seconds:9.3f} s {one.mebibytes:9.1f} MiB")
    literal, folded = found["literal"], found["folded"]
    gap = (torch.tensor(literal.tokens) - torch.tensor(folded.tokens)).abs().max()
    print(f"largest difference {gap:.1e}")
    print(
        f"ratio    {literal.seconds / folded.seconds:9.1f} x "
        f"{literal.mebibytes / folded.mebibytes:9.1f} x"
    )


def measure(form: str, options: argparse.Namespace) -> Measurement:
    """Forward and backward of one form; runs in a fresh process."""
    torch.manual_seed(0)
    device = torch.device(options.device)
    inject = ContextInjection(options.width, options.hidden).to(device)
    features = torch.randn(options.frames, options.tokens, options.width, device=device)
    context = torch.randn(options.prompts, options.context, options.hidden, device=device)
    frame_owner = torch.zeros(options.frames, dtype=torch.long, device=device)
    prompt_owner = torch.zeros(options.prompts, dtype=torch.long, device=device)
    layout = lay_out(frame_owner, prompt_owner, 1, options.frames, options.frames)

    def step() -> torch.Tensor:
        inject.zero_grad()
        if form == "literal":
            tokens = inject.literal(features, context).flatten(0, 1)
        else:
            tokens = inject(features, context, layout)
        tokens.square().mean().backward()
        return tokens.detach()

    clock = time.process_time if device.type == "cpu" else time.perf_counter
    before, seconds = peak(device), []
    for _ in range(options.repeats):
        start = clock()
        tokens = step().cpu()
        seconds.append(clock() - start)
    return Measurement(min(seconds), peak(device) - before, tokens[:, :32].tolist())


def peak(device: torch.device) -> float:
    """Most memory this process has held so far, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
