"""What a session saves: the second turn against the first, and follow-ups against fresh runs.

    python benchmarks/follow_ups.py
    python benchmarks/follow_ups.py --frames 64 --words 40

The mini host with a random adapter that is made to say a [SEG] in every answer, so each turn ends
in the mask of one thing that is tracked through the clip. One session asks `--turns` further
questions; then each of them is asked by a session opened anew that reads the same conversation
before, as a program without sessions would. Printed: time to the first token of turn 2 over that of
turn 1; what the turns of both schedules spent on opening the video, on words and on masks; their
ratio; and by how many pixels the masks differ: none but where a logit is zero to rounding, because
a fresh run reads the words before its question in other pieces. CPU seconds, so that
neighbours do not count. Weights do not matter; sizes do: tracking is new work in every turn, so the
heavier the encoders are against it, the more a session saves (`frame_costs.py`).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Iterator

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.encodes import present_everywhere
from sama_plugin.infer.session import VideoSession
from sama_plugin.media.frames import FramePolicy
from sama_plugin.miniworld.host import load_mini
from sama_plugin.miniworld.lesson import mini_config
from sama_plugin.model import generate
from sama_plugin.model.attach import SamaModel, attach
from sama_plugin.segment import pieces

QUESTIONS = ("what is this?", "and that?", "where does it go?", "which one is red?", "what now?")


@dataclass(frozen=True)
class Cost:
    """Seconds of a turn: opening the video, words, masks; and up to the first word."""

    opening: float
    words: float
    masks: float
    wait: float


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
    pieces.MOST = 1  # masks of random weights fall apart; one phrase is one thing
    ask(VideoSession(sama, clip[:4]), "warm up")

    with session(sama, clip) as talk:
        first = ask(talk, "what is there?")
        kept = [ask(talk, question) for question in questions(options.turns)]
        encodes = talk.encodes
    apart, differ = [], 0
    for number in range(1, options.turns + 1):
        with session(sama, clip) as fresh:
            for turn, answer in zip(talk.turns[:number], talk.answers):
                fresh.restore(turn, answer)
            apart.append(ask(fresh, talk.turns[number].asked))
            differ += different_pixels(talk, fresh, number)
    print(f"{options.frames} frames, encoded {encodes} times by (vision tower, segmenter)")
    waits = first.wait, kept[0].wait
    print(
        f"first token: turn 1 {waits[0]:.3f} s, turn 2 {waits[1]:.3f} s: {waits[1] / waits[0]:.1%}"
    )
    spent = [
        report(f"{options.turns} follow-ups", kept),
        report(f"{options.turns} fresh runs", apart),
    ]
    print(f"ratio {spent[1] / spent[0]:.1f} x, masks differ in {differ} pixels")


def session(sama: SamaModel, clip: np.ndarray) -> VideoSession:
    policy = FramePolicy(aggregator=16, llm=8, prompted=4)
    began = time.process_time()
    opened = VideoSession(sama, clip, frames=policy)
    opened.seconds_to_open = time.process_time() - began
    return opened


def ask(talk: VideoSession, question: str) -> Cost:
    """A turn with its mask; the opening of the video counts for the first one of a session."""
    opening = vars(talk).pop("seconds_to_open", 0.0)
    began, heard = time.process_time(), []
    talk.ask(question, masks=False, stream=lambda event: heard.append(time.process_time()))
    said = time.process_time()
    talk.tracks(len(talk.turns))
    return Cost(opening, said - began, time.process_time() - said, heard[0] - began + opening)


def report(name: str, turns: list[Cost]) -> float:
    """Print what turns spent, and return it in all."""
    opening, words, masks, _ = (sum(column) for column in zip(*map(astuple, turns)))
    total = opening + words + masks
    print(f"{name:14}{total:6.2f} s: opening {opening:.2f}, words {words:.2f}, masks {masks:.2f}")
    return total


def different_pixels(one: VideoSession, other: VideoSession, turn: int) -> int:
    """Pixels in which the masks of a turn (from 0) differ in two sessions."""
    return sum(
        int((mine.track.mask(frame) != theirs.track.mask(frame)).sum())
        for mine, theirs in zip(one.answers[turn].phrases, other.answers[turn].phrases)
        for frame in range(one.plan.total)
    )


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
