"""What a session saves: the second turn against the first, and follow-ups against fresh runs.

    python benchmarks/follow_ups.py
    python benchmarks/follow_ups.py --frames 64 --segmenter sam2.1_hiera_tiny

The mini host with a random adapter that is made to say a [SEG] in every answer, so each turn ends
in a mask that is tracked through the clip. One session asks `--turns` further questions; then the
same questions are asked of sessions opened anew, as a program without sessions would. Printed: time
to the first token of turn 2 over that of turn 1, and the ratio of the two schedules, in CPU
seconds, so that neighbours do not count. Weights do not matter for either; sizes do: the heavier
the encoders are against the tracking, the more a session saves.
"""

from __future__ import annotations

import argparse
import time
from typing import Iterator

import numpy as np

from benchmarks.encodes import present_everywhere
from sama_plugin.infer.session import VideoSession
from sama_plugin.media.frames import FramePolicy
from sama_plugin.miniworld.host import load_mini
from sama_plugin.miniworld.lesson import mini_config
from sama_plugin.model import generate
from sama_plugin.model.attach import SamaModel, attach

QUESTIONS = ("what is this?", "and that?", "where does it go?", "which one is red?", "what now?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5, help="follow-ups after the first question")
    parser.add_argument("--frames", type=int, default=32, help="length of the clip")
    parser.add_argument("--size", type=int, default=128, help="side of its frames, in pixels")
    parser.add_argument("--segmenter", default="mini", help="a name of the segmenter registry")
    parser.add_argument("--words", type=int, default=8, help="length of an answer, in tokens")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    shape = (options.frames, options.size, options.size, 3)
    clip = random.integers(0, 255, shape, dtype=np.uint8)
    seg = (f"seg.segmenter={options.segmenter}", "seg.weights=random")
    sama = present_everywhere(attach(*load_mini(), mini_config(*seg)))
    speak(sama, options.words)
    ask(VideoSession(sama, clip[:4]), "warm up")

    with session(sama, clip) as talk:
        first = ask(talk, "what is there?")
        start = time.process_time()
        waits = [ask(talk, question) for question in questions(options.turns)]
        kept = time.process_time() - start
        encodes = talk.encodes
    start = time.process_time()
    for question in questions(options.turns):
        with session(sama, clip) as fresh:
            ask(fresh, question)
    apart = time.process_time() - start
    print(f"{options.frames} frames, encoded {encodes} times by (vision tower, segmenter)")
    print(f"first token: turn 1 {first:.3f} s, turn 2 {waits[0]:.3f} s: {waits[0] / first:.1%}")
    print(f"{options.turns} follow-ups {kept:.2f} s, {options.turns} fresh runs {apart:.2f} s")
    print(f"ratio {apart / kept:.1f} x")


def session(sama: SamaModel, clip: np.ndarray) -> VideoSession:
    policy = FramePolicy(aggregator=16, llm=8, prompted=4)
    began = time.process_time()
    opened = VideoSession(sama, clip, frames=policy)
    opened.seconds_to_open = time.process_time() - began
    return opened


def ask(talk: VideoSession, question: str) -> float:
    """Seconds to the first word of the answer; the opening of the video counts for turn 1."""
    opening = 0.0 if talk.turns else getattr(talk, "seconds_to_open", 0.0)
    began, heard = time.process_time(), []
    talk.ask(question, stream=lambda event: heard.append(time.process_time()))
    return heard[0] - began + opening


def questions(count: int) -> Iterator[str]:
    return (QUESTIONS[number % len(QUESTIONS)] for number in range(count))


def speak(sama: SamaModel, words: int) -> None:
    """Every answer: words, one grounded phrase, the end."""
    ids, tokenizer = sama.ids, sama.tokenizer
    word = tokenizer(" red").input_ids[0]
    said = [word] * words + [ids.phrase_open, word, ids.phrase_close, ids.seg]
    said.append(tokenizer.eos_token_id)
    generate._chooser = lambda sampling, device: lambda logits, new: said[len(new)]


if __name__ == "__main__":
    main()
