"""A conversation at full size: speed of speaking and of masks, and peak memory.

    python benchmarks/long_conversation.py --device cuda         # 1B host, 300 frames of 1080p
    python benchmarks/long_conversation.py --host tiny --frames 8 --segmenter mini   # anywhere

One question about a clip is answered with `--words` words and `--objects` grounded phrases, each
followed through the whole clip, and one more question follows. Host, adapter and segmenter have
random weights (what is measured does not depend on them) in the type of the device: bfloat16 on a
GPU, float32 elsewhere. Peak memory includes the weights; on a GPU it is what torch allocated,
elsewhere the process's. Exit code 1 if a GPU needs more than 12 GB. Numbers of a CPU say nothing
about a GPU.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.encodes import present_everywhere
from sama_plugin.infer.answers import TextPiece
from sama_plugin.infer.session import VideoSession
from sama_plugin.media.frames import FramePolicy
from sama_plugin.miniworld.host import MINI, TINY, HostShape, build_host
from sama_plugin.miniworld.lesson import mini_config
from sama_plugin.model import generate
from sama_plugin.model.attach import SamaModel, attach
from sama_plugin.model.config import SamaConfig, SegConfig

LIMIT = 12e9
FULL = HostShape(448, 14, 1024, 24, 16, 4096, 896, 24, 14, 2, 4864, 32768)
"""InternVL3-1B."""
VOCABULARY = 151_674
HOSTS = {"1b": FULL, "mini": MINI, "tiny": TINY}


@torch.no_grad()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", choices=HOSTS, default="1b")
    parser.add_argument("--segmenter", default="sam2.1_hiera_tiny")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", type=int, nargs=2, default=(1080, 1920), help="height, width")
    parser.add_argument("--objects", type=int, default=10)
    parser.add_argument("--words", type=int, default=100, help="length of an answer, in tokens")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    sama = model(options)
    image = np.random.default_rng(0).integers(0, 255, (1, *options.size, 3), dtype=np.uint8)
    clip = np.broadcast_to(image, (options.frames, *options.size, 3))  # one frame in memory
    speak(sama, options.words, options.objects)
    policy = FramePolicy(aggregator=32, llm=8, prompted=5)
    VideoSession(sama, clip[:1], frames=policy).ask("warm up", masks=False)

    began = now(options.device)
    with VideoSession(sama, clip, frames=policy) as talk:
        print(f"opened in {now(options.device) - began:.2f} s: {talk.plan}")
        for question in ("what moves?", "and now?"):
            report(talk, question, options)
    peak = peak_memory(options.device)
    print(f"peak memory {peak / 1e9:.2f} GB")
    return int(options.device != "cpu" and peak > LIMIT)


def model(options: argparse.Namespace) -> SamaModel:
    """Random weights on the device."""
    host, tokenizer = build_host(HOSTS[options.host])
    if options.host == "1b":
        host.resize_token_embeddings(VOCABULARY, mean_resizing=False)
        seg = SegConfig(segmenter=options.segmenter, weights="random")
        config = SamaConfig(seg=seg)
    else:
        config = mini_config(f"seg.segmenter={options.segmenter}", "seg.weights=random")
    sama = present_everywhere(attach(host, tokenizer, config))
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    host.to(options.device, dtype)
    sama.segmenter.to(options.device, dtype)
    return sama


def speak(sama: SamaModel, words: int, objects: int) -> None:
    """Every answer: words, then the phrases."""
    ids, tokenizer = sama.ids, sama.tokenizer
    word = tokenizer(" red").input_ids[0]
    phrase = [ids.phrase_open, word, ids.phrase_close, ids.seg]
    said = [word] * words + phrase * objects + [tokenizer.eos_token_id]

    def choose(logits: torch.Tensor, new: list) -> int:
        logits.argmax().item()  # what choosing costs
        return said[len(new)]

    generate._chooser = lambda sampling, device: choose


def report(talk: VideoSession, question: str, options: argparse.Namespace) -> None:
    """Ask, and print how fast the answer came."""
    heard: list[float] = []

    def listen(event: object) -> None:
        if isinstance(event, TextPiece):
            heard.append(now(options.device))

    began = now(options.device)
    tokens = options.words + 4 * options.objects
    answer = talk.ask(question, stream=listen, max_new_tokens=tokens + 1)
    speaking = answer.seconds.text - (heard[0] - began)
    followed = options.frames * len(answer.phrases)
    assert len(answer.phrases) == options.objects
    print(
        f"first word {heard[0] - began:.3f} s, {tokens / speaking:.1f} tokens/s, "
        f"{options.frames / answer.seconds.masks:.1f} frames/s with {len(answer.phrases)} objects "
        f"({followed} masks)"
    )


def now(device: str) -> float:
    """Wall clock, on a GPU once it has done its work."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_memory(device: str) -> float:
    """Bytes."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return float(torch.cuda.max_memory_allocated())


if __name__ == "__main__":
    sys.exit(main())
