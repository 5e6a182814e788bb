"""The evaluation runs cases through real sessions; its numbers mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from sama_plugin.media.tracks import MaskTrack
from sama_plugin.miniworld.cases import clip_cases, with_regions_of
from sama_plugin.miniworld.evaluate import METRICS, Score, _summary, normal, score_clip
from sama_plugin.model.attach import attach
from tests.model.conftest import tiny_config


@pytest.fixture(scope="module")
def clip():
    return clip_cases(1_000_003)


def test_cases_are_repeatable_and_complete(clip):
    again = clip_cases(1_000_003)
    assert [case.sample for case in clip.cases] == [case.sample for case in again.cases]
    assert np.array_equal(clip.frames, again.frames)
    assert {case.task for case in clip.cases} == {
        "grounding",
        "absent",
        "region_qa",
        "dialogue",
        "chat",
    }


def test_references_hold_what_is_scored(clip):
    for case in clip.cases:
        for turn in case.sample.turns:
            assert turn.user.count("<region>") == len(turn.regions)
            if case.task == "grounding":
                (target,) = turn.targets
                assert isinstance(target.track, MaskTrack) and target.track.total == len(
                    clip.frames
                )
            if case.task in ("region_qa", "chat"):
                assert turn.assistant and not turn.targets
            if case.task == "absent":
                assert not turn.targets


def test_shuffled_regions_come_from_the_other_clip(clip):
    case = next(case for case in clip.cases if case.task == "region_qa")
    other = clip_cases(1_000_004)
    donors = [r for c in other.cases if c.task == "region_qa" for r in c.sample.regions]
    shuffled = with_regions_of(case, other)
    assert all(region in donors for region in shuffled.sample.regions)
    assert shuffled.sample.turns[0].assistant == case.sample.turns[0].assistant


def test_a_random_model_is_scored_end_to_end(tiny_sama):
    scores, encodes, frames = score_clip(tiny_sama, 1_000_003, per_task=1)
    assert {score.metric for score in scores} >= {
        "grounding_jf",
        "region_qa",
        "region_qa_shuffled",
        "chat_accuracy",
        "no_target_accuracy",
    }
    assert all(0 <= score.value <= 1 for score in scores)
    assert frames == 16 and encodes in (0, 16)


def test_summary_weighs_and_bounds():
    scores = [Score("dialogue_recall", "phrase", 1.0, 3.0), Score("dialogue_recall", "phrase", 0.0)]
    summary = _summary(scores, "dialogue_recall")
    assert summary["value"] == 0.75 and summary["n"] == 2
    assert 0 <= summary["low"] < 0.75 < summary["high"] <= 1
    assert np.isnan(_summary([], METRICS[0])["value"])


def test_answers_compare_by_words():
    assert normal("It is a red  circle.") == normal("it is a red circle")
    assert normal("It is a red circle.") != normal("It is a blue circle.")


@pytest.fixture(scope="module")
def tiny_sama():
    from sama_plugin.miniworld.host import tiny_host

    return attach(*tiny_host(seed=0), tiny_config())
