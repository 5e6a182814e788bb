"""Sessions in one batch, and sessions that share a video: the answers of sessions alone."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch

from sama_plugin.errors import MediaError, SlotError
from sama_plugin.infer.answers import MaskReady
from sama_plugin.infer.record import resume_session
from sama_plugin.infer.session import VideoSession
from sama_plugin.infer.together import _fitting, ask_together
from sama_plugin.infer.video import OpenVideo
from sama_plugin.media.frames import FramePolicy
from sama_plugin.model import generate, generate_together
from sama_plugin.model.lanes import Lanes
from tests.infer.conftest import FRAMES, TOKENIZER, speak_grammar

FIRST = ("what moves?", "say at length what does the red star near @dot do?", "who?")
SECOND = ("and now?", "@dot?", "where is it then?")
LENGTH = 12


def opened(sama, clip):
    """Three conversations of different lengths about clips of different lengths."""
    sessions = [VideoSession(sama, clip[: FRAMES - 2 * number]) for number in range(3)]
    for session in sessions:
        session.region("dot", frame=2, points=[(30, 20)])
    return sessions


def test_answers_in_a_batch_are_those_of_sessions_alone(sama, clip):
    alone, together = opened(sama, clip), opened(sama, clip)
    quick = {"max_new_tokens": LENGTH, "masks": False}
    for texts in (FIRST, SECOND):
        wanted = [one.ask(text, **quick) for one, text in zip(alone, texts)]
        found = ask_together(together, texts, **quick)
        for one, other in zip(wanted, found):
            assert one.ids == other.ids and one.text == other.text and one.phrases
    for one, other in zip(alone, together):
        assert one.ids == other.ids and one.cached_tokens == other.cached_tokens
        for turn, same in zip(one.turns, other.turns):
            assert torch.allclose(turn.seg_states, same.seg_states, atol=1e-5)


@pytest.mark.parametrize("length", [3, 4, 9])  # ends before, on and on the last [SEG]
def test_an_answer_cut_short_is_cut_alike(sama, clip, length):
    alone, together = opened(sama, clip)[:2], opened(sama, clip)[:2]
    wanted = [one.ask(t, max_new_tokens=length, masks=False) for one, t in zip(alone, FIRST)]
    found = ask_together(together, FIRST[:2], max_new_tokens=length, masks=False)
    assert [one.ids for one in wanted] == [one.ids for one in found]
    states = [[one.turns[0].seg_states for one in side] for side in (alone, together)]
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*states))
    assert [one.cached_tokens for one in alone] == [one.cached_tokens for one in together]


@pytest.mark.parametrize("shared", [True, False])
def test_who_has_said_enough_leaves_the_batch(sama, clip, monkeypatch, shared):
    """And has the cache and the states that it has alone, in the next turn too."""
    lengths = itertools.cycle((9, 3, 6))

    def chooser(sampling, device):
        say, most = speak_grammar(sampling, device), next(lengths)
        return lambda logits, new: say(logits, new) if len(new) < most else TOKENIZER.eos_token_id

    widths, read = [], Lanes.read

    def reads(self, sama, ids, real):
        widths.append(tuple(ids.shape))
        return read(self, sama, ids, real)

    monkeypatch.setattr(generate, "_chooser", chooser)
    monkeypatch.setattr(Lanes, "read", reads)
    quick = {"max_new_tokens": 20, "masks": False}
    with OpenVideo(sama, clip) as video:
        alone = [VideoSession(sama, clip) for _ in FIRST]
        together = [VideoSession(sama, video if shared else clip) for _ in FIRST]
        for session in (*alone, *together):
            session.region("dot", frame=2, points=[(30, 20)])
        for texts in (FIRST, SECOND):
            wanted = [one.ask(text, **quick) for one, text in zip(alone, texts)]
            found = ask_together(together, texts, **quick)
            assert [one.ids for one in found] == [one.ids for one in wanted]
    assert [len(one.ids) for one in found] == [10, 4, 7]
    assert widths[-9:] == [(3, 1)] * 3 + [(2, 1)] * 3 + [(1, 1)] * 3
    for one, other in zip(alone, together):
        assert one.cached_tokens == other.cached_tokens and one.ids == other.ids
        for turn, same in zip(one.turns, other.turns):
            assert torch.allclose(turn.seg_states, same.seg_states, atol=1e-5)


def test_events_say_whose_they_are(sama, clip):
    sessions, heard = opened(sama, clip)[:2], []
    ask_together(
        sessions,
        FIRST[:2],
        max_new_tokens=LENGTH,
        stream=lambda number, event: heard.append((number, event)),
    )
    for number, session in enumerate(sessions):
        masks = [e.phrase.name for n, e in heard if n == number and isinstance(e, MaskReady)]
        assert masks == [phrase.name for phrase in session.answers[0].phrases]


def test_questions_and_sessions_must_match(sama, clip, session):
    with pytest.raises(SlotError, match="1 questions for 2 sessions"):
        ask_together([session, session], ["what?"])
    with pytest.raises(SlotError, match="1 of them different"):
        ask_together([session, session], ["what?", "who?"])
    assert ask_together([], []) == []


def test_sessions_share_a_video(sama, clip):
    with VideoSession(sama, clip) as fresh:
        wanted = fresh.ask("what moves?", max_new_tokens=LENGTH)
        encodes = fresh.encodes
    with OpenVideo(sama, clip) as video:
        with VideoSession(sama, video) as one:
            one.ask("who is red?", max_new_tokens=LENGTH)
        with VideoSession(sama, video) as other:
            found = other.ask("what moves?", max_new_tokens=LENGTH)
        assert found.ids == wanted.ids and found.phrases == wanted.phrases
        assert video.encodes == encodes
        with pytest.raises(MediaError, match="its own model and frame plan"):
            VideoSession(sama, video, frames=FramePolicy(llm=1))


def test_questions_about_one_video_are_read_behind_its_frames(sama, clip, monkeypatch):
    """Prompts of different lengths, with and without regions, then a second round."""
    with OpenVideo(sama, clip) as video:
        sessions = [VideoSession(sama, video) for _ in FIRST]
        for session in sessions:
            session.region("dot", frame=2, points=[(30, 20)])
        alone = [VideoSession(sama, clip) for _ in FIRST]
        for session in alone:
            session.region("dot", frame=2, points=[(30, 20)])
        wanted = [one.ask(text, max_new_tokens=LENGTH) for one, text in zip(alone, FIRST)]
        with monkeypatch.context() as patched:
            patched.setattr(generate_together, "read_prompt", None)  # nobody is read alone
            found = ask_together(sessions, FIRST, max_new_tokens=LENGTH)
        wanted += [one.ask(t, max_new_tokens=LENGTH, masks=False) for one, t in zip(alone, SECOND)]
        found += ask_together(sessions, SECOND, max_new_tokens=LENGTH, masks=False)
    assert [one.ids for one in found] == [one.ids for one in wanted]
    for one, other in zip(alone, sessions):
        assert one.cached_tokens == other.cached_tokens and one.ids == other.ids
        for phrase, same in zip(one.answers[0].phrases, other.answers[0].phrases):
            assert phrase.track.rles == same.track.rles and phrase.name == same.name
        for turn, same in zip(one.turns, other.turns):
            assert torch.allclose(turn.seg_states, same.seg_states, atol=1e-5)


def test_a_batch_that_cannot_begin_leaves_every_session_usable(sama, clip):
    with OpenVideo(sama, clip) as video:
        sessions = [VideoSession(sama, video) for _ in range(2)]
        with pytest.raises(SlotError, match="the host reads"):
            ask_together(sessions, ["what moves?", "who?"], max_new_tokens=10**6)
        one, other = (session.ask("who?", max_new_tokens=LENGTH) for session in sessions)
    with VideoSession(sama, clip) as fresh:
        assert one.ids == other.ids == fresh.ask("who?", max_new_tokens=LENGTH).ids


@pytest.mark.parametrize(
    "phrases, most, groups",
    [
        ((2, 2, 2), 6, [[2, 2, 2]]),
        ((2, 2, 2), 5, [[2, 2], [2]]),
        ((1, 9, 1), 4, [[1], [9], [1]]),  # the one that is too much fails by itself
    ],
)
def test_no_more_things_are_tracked_at_once_than_fit(phrases, most, groups):
    answers = [SimpleNamespace(answers=[SimpleNamespace(phrases=[0] * n)]) for n in phrases]
    found = _fitting([(answer, None) for answer in answers], most)
    assert [[len(one.answers[-1].phrases) for one, _ in group] for group in found] == groups


def test_frames_are_known_however_they_were_read(sama, clip, tmp_path):
    """[SEG] is looked up in them, so they must be at hand whoever read them."""
    with OpenVideo(sama, clip) as video:
        one, other, third = (VideoSession(sama, video) for _ in range(3))
        assert one.shown is None
        one.ask("what moves?", max_new_tokens=LENGTH)
        wanted = one.shown
        assert wanted.tokens.shape[:2] == (1, len(one.plan.llm)) and wanted.times[0, -1] <= 1
        ask_together([other, third], ["what moves?", "who is red?"], max_new_tokens=LENGTH)
        taken_up = resume_session(sama, other.save(tmp_path / "talk.json"), clip)
        taken_up.seg_states(1)
        one.ask("and then?", max_new_tokens=LENGTH)
        for session in (one, other, third, taken_up):
            assert torch.allclose(session.shown.tokens, wanted.tokens, atol=1e-5)
            assert torch.equal(session.shown.times, wanted.times)
        one.restart()
        one.ask("who?", max_new_tokens=LENGTH)
        assert torch.allclose(one.shown.tokens, wanted.tokens, atol=1e-5)
