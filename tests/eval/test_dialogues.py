"""Conversations about one clip side by side: the words and masks of each held by itself."""

from __future__ import annotations

import dataclasses

import pytest

from sama_plugin.eval.asking import answer_cases
from sama_plugin.eval.cases import Case
from sama_plugin.infer import together
from sama_plugin.infer.grounding import Grounder
from sama_plugin.nn.pointing import Pointer
from tests.eval.test_twins import (  # noqa: F401
    ASKING,
    clip_cases,
    outside_the_frame,
    talkative,
    tiny_sama,
    told,
)


def case(key, *parts):
    """One case whose turns are those of these single questions."""
    turns = tuple(turn for part in parts for turn in part.sample.turns)
    return Case(key, dataclasses.replace(parts[-1].sample, id=key, turns=turns))


@pytest.fixture
def cases(clip_cases):  # noqa: F811
    """A dialogue that is scored at each of its three turns, a single question, a dialogue that is
    scored at its end alone, and one of two scored turns."""
    a, b, c, d = clip_cases
    return [
        *(case("three#1", a), case("three#2", a, b), case("three#3", a, b, c)),
        case("single", d),
        case("end", b, a),
        *(case("two#1", d), case("two#2", d, a)),
    ]


def test_side_by_side_equals_one_by_one(tiny_sama, cases, talkative):  # noqa: F811
    apart = list(answer_cases(tiny_sama, cases, together=1, **ASKING))
    wanted, scores = told(apart)
    assert [one.key for one in apart] == [one.key for one in cases]
    assert len(scores) == len(cases) and not any(one.error for one in apart)
    assert len({one.text for one in apart}) > 2, "conversations that differ are told apart"
    for most in (2, 16):
        found, near = told(answer_cases(tiny_sama, cases, together=most, **ASKING))
        assert found == wanted
        assert near == [pytest.approx(one, abs=1e-3) for one in scores]


@pytest.mark.parametrize(("masks", "batches"), [(True, [1, 3, 3, 1]), (False, [4, 3, 1])])
def test_the_same_turn_of_all_is_one_batch(
    tiny_sama,  # noqa: F811
    cases,
    talkative,  # noqa: F811
    monkeypatch,
    masks,
    batches,
):
    """With masks, the turn that only leads to a case is apart from those that are tracked."""
    spoken, tracked, ground = [], [], Grounder.ground
    speak = together.generate_together

    def speaks(sama, requests, **options):
        spoken.append(len(requests))
        return speak(sama, requests, **options)

    def grounds(self, states, shown, plan, **options):
        tracked.append(len(states))
        return ground(self, states, shown, plan, **options)

    monkeypatch.setattr(together, "generate_together", speaks)
    monkeypatch.setattr(Grounder, "ground", grounds)
    list(answer_cases(tiny_sama, cases, **{**ASKING, "masks": masks}))
    assert spoken == batches
    assert tracked == ([3, 3, 1] if masks else []), "of the answers that are scored, no others"


@pytest.mark.parametrize("most", [1, 16])
def test_frames_pass_the_pointer_once_a_video(tiny_sama, cases, talkative, monkeypatch, most):  # noqa: F811
    """Whoever of those that begin together asks about them, in whatever turn, and whatever is
    grounded."""
    passed, seen = [], Pointer.seen

    def sees(self, read):
        passed.append(read.owner.tolist())
        return seen(self, read)

    monkeypatch.setattr(Pointer, "seen", sees)
    scored = [one for one in cases if one.key != "end"]
    list(answer_cases(tiny_sama, scored, together=most, **ASKING))
    assert passed == [[0] * tiny_sama.config.frames.llm]


def test_a_turn_that_fails_costs_its_own_conversation_only(tiny_sama, cases, talkative):  # noqa: F811
    bad = outside_the_frame(cases[0])
    broken = list(cases)
    broken[1] = case("three#2", cases[0], bad)
    broken[2] = case("three#3", cases[0], bad, cases[3])
    asking = {**ASKING, "masks": False}
    wanted, _ = told(answer_cases(tiny_sama, broken, together=1, **asking))
    found, _ = told(answer_cases(tiny_sama, broken, **asking))
    assert found == wanted
    assert [key for key, error, *_ in found if error] == ["three#2", "three#3"]
