"""Conversations whose answers end with words of several tokens (SAMA-4B, Sa2VA-4B): alone,
streamed, cut, continued and together.
"""

from __future__ import annotations

import pytest
import torch

from sama_plugin.dialog.wording import TextEncoder
from sama_plugin.infer.answers import TextPiece
from sama_plugin.infer.session import VideoSession
from sama_plugin.infer.together import ask_together
from sama_plugin.miniworld.host import tiny_host
from sama_plugin.model import generate
from sama_plugin.model.attach import attach
from sama_plugin.model.generate import teacher_forced
from sama_plugin.model.importers.description import TEMPLATES
from tests.infer.conftest import GRAMMAR, IDS, TOKENIZER, WORDS
from tests.model.conftest import tiny_config

END = TextEncoder(TOKENIZER).plain("<|end|>")
SPOKEN = len(GRAMMAR)
LENGTH = SPOKEN + len(END) + 4
QUESTIONS = ("what moves?", "say at length what the red star does near the ring?", "who?")
MORE = ("and now?", "is it there?", "where is it then?")


def speak_phi3(sampling, device):
    """The grammar of `conftest.py`, after a false start of the end, and then the end in its
    tokens; whoever listens on hears nonsense.
    """
    marks = {"<": IDS.phrase_open, ">": IDS.phrase_close, "S": IDS.seg}
    script = [marks.get(mark) for mark in GRAMMAR]
    script = [END[0], *script, END[0], *END, *[WORDS[0]] * 9]

    def choose(logits, new):
        fixed = script[len(new)]
        return fixed if fixed is not None else max(WORDS, key=lambda token: float(logits[token]))

    return choose


@pytest.fixture(autouse=True)
def grammar(monkeypatch):
    """Answers end with "<<|end|>": the first "<" is a word of the answer."""
    monkeypatch.setattr(generate, "_chooser", speak_phi3)


@pytest.fixture(scope="module")
def phi3():
    """An attached host with Phi-3's template on a tokenizer that does not know its marks."""
    host, tokenizer = tiny_host(seed=0)
    tokenizer.chat_template = TEMPLATES["phi3_chat"]
    return attach(host, tokenizer, tiny_config())


def quick(session, text, **options):
    return session.ask(text, masks=False, **{"max_new_tokens": LENGTH + 2, **options})


def replayed(sama, clip, said):
    """A session that reads the recorded turns afresh."""
    fresh = VideoSession(sama, clip)
    for turn, answer in zip(said.turns, said.answers):
        fresh.restore(turn, answer)
    return fresh


def test_the_end_has_several_tokens_and_ends_the_answer(phi3, clip):
    assert len(END) > 3
    with VideoSession(phi3, clip) as session:
        answer = quick(session, QUESTIONS[0])
        assert answer.finished and list(answer.ids[-len(END) :]) == END
        assert len(answer.ids) == SPOKEN + 2 + len(END)
        assert answer.text.startswith("<") and answer.text.endswith("<")
        assert "|" not in answer.text and len(answer.phrases) == 2
        turn = session.turns[0]
        forced, _ = teacher_forced(
            phi3,
            [*turn.prompt_ids, *turn.answer_ids],
            session._visual.batch([turn], True),
            session._visual.cache,
        )
        assert torch.allclose(forced, turn.seg_states, atol=1e-5) and len(forced) == 2


@pytest.mark.parametrize("length", range(1, LENGTH))
def test_streamed_words_are_the_stored_words_wherever_it_is_cut(phi3, clip, length):
    events = []
    with VideoSession(phi3, clip) as session:
        answer = quick(session, QUESTIONS[0], stream=events.append, max_new_tokens=length)
        assert "".join(one.text for one in events if isinstance(one, TextPiece)) == answer.text
        assert answer.finished == (length >= SPOKEN + 2 + len(END))
        assert phi3.tokenizer.decode(answer.ids).endswith("<|end|>")
        assert phi3.tokenizer.decode(answer.ids).count("|end|") == 1


@pytest.mark.parametrize("length", [4, SPOKEN, SPOKEN + 3, SPOKEN + 4, LENGTH])
def test_the_next_turn_equals_a_fresh_run(phi3, clip, length):
    with VideoSession(phi3, clip) as session:
        quick(session, QUESTIONS[0], max_new_tokens=length)
        fresh = replayed(phi3, clip, session)
        again = session.cached_tokens
        assert 0 < again < len(session.ids)
        found, wanted = quick(session, MORE[0]), quick(fresh, MORE[0])
        assert found.ids == wanted.ids and found.text == wanted.text
        assert session.ids == fresh.ids
        for one, other in zip(session.turns[1:], fresh.turns[1:]):
            assert torch.allclose(one.seg_states, other.seg_states, atol=1e-4)
        text = phi3.tokenizer.decode(session.ids)
        assert text.count("<|end|>\n<|user|>\n<|context|>") == 1
        assert text.count("\nand now?<|end|>\n<|assistant|>\n") == 1
        fresh.close()


def test_together_they_are_answered_as_alone(phi3, clip):
    alone, together = ([VideoSession(phi3, clip[: 9 - 2 * n]) for n in range(3)] for _ in "ab")
    for texts, length in ((QUESTIONS, SPOKEN + 4), (MORE, LENGTH + 2)):
        wanted = [quick(one, text, max_new_tokens=length) for one, text in zip(alone, texts)]
        found = ask_together(together, texts, masks=False, max_new_tokens=length)
        assert [one.ids for one in wanted] == [one.ids for one in found]
        assert [one.text for one in wanted] == [one.text for one in found]
        assert [one.finished for one in wanted] == [one.finished for one in found]
    for one, other in zip(alone, together):
        assert one.ids == other.ids and one.cached_tokens == other.cached_tokens
        for turn, same in zip(one.turns, other.turns):
            assert torch.allclose(turn.seg_states, same.seg_states, atol=1e-5)


def test_the_tokenizers_own_end_ends_it_too(phi3, clip, monkeypatch):
    eos = phi3.tokenizer.eos_token_id
    monkeypatch.setattr(
        generate, "_chooser", lambda *_: lambda logits, new: [WORDS[0], eos][len(new)]
    )
    with VideoSession(phi3, clip) as session:
        answer = quick(session, QUESTIONS[0])
        assert answer.finished and list(answer.ids) == [WORDS[0], *END]
        fresh = replayed(phi3, clip, session)
        assert quick(session, MORE[0]).ids == quick(fresh, MORE[0]).ids
        fresh.close()
