"""A tiny attached host that likes to ground, and a short clip to talk about."""

from __future__ import annotations

import numpy as np
import pytest

from sama_plugin.dialog.tokens import add_tokens
from sama_plugin.infer.session import VideoSession
from sama_plugin.miniworld.host import tiny_host
from sama_plugin.miniworld.tokenizer import build_tokenizer
from sama_plugin.model import generate
from sama_plugin.model.attach import attach
from tests.model.conftest import outspoken, tiny_config

HEIGHT, WIDTH, FRAMES = 48, 64, 9

GRAMMAR = "w<w>Sw<ww>S"
TOKENIZER = build_tokenizer()
VOCABULARY = ("red", "blue", "star", "ring", "moves", "stays", "left", "up")
WORDS = [TOKENIZER(" " + word).input_ids[0] for word in VOCABULARY]
IDS = add_tokens(TOKENIZER)


def speak_grammar(sampling, device):
    """Chooser of the next token: random weights pick the words, a grammar sets the marks between
    them.
    """

    def choose(logits, new):
        place = len(new)
        if place == len(GRAMMAR):
            return TOKENIZER.eos_token_id
        mark = {"<": IDS.phrase_open, ">": IDS.phrase_close, "S": IDS.seg}.get(GRAMMAR[place])
        return mark if mark is not None else max(WORDS, key=lambda token: float(logits[token]))

    return choose


@pytest.fixture(autouse=True)
def grammar(monkeypatch):
    """Every answer is "word <p> word </p> [SEG] word <p> word word </p> [SEG]"; the words come
    from the weights.
    """
    monkeypatch.setattr(generate, "_chooser", speak_grammar)


@pytest.fixture(scope="module")
def sama():
    """An attached tiny host with random weights; sessions do not change it."""
    return outspoken(attach(*tiny_host(seed=0), tiny_config()))


@pytest.fixture(scope="session")
def clip():
    """Nine frames of noise with a bright square that moves; uint8 (9, 48, 64, 3)."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 120, (FRAMES, HEIGHT, WIDTH, 3)).astype(np.uint8)
    for frame in range(FRAMES):
        frames[frame, 10:22, 4 + 4 * frame : 18 + 4 * frame] = (220, 60, 40)
    return frames


@pytest.fixture
def session(sama, clip):
    """A fresh conversation about the clip."""
    with VideoSession(sama, clip) as session:
        yield session
