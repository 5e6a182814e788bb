"""Frame plans: SAMA's released rules to the number, our defaults by their properties."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sama_plugin.errors import ConfigError, MediaError
from sama_plugin.media import frames
from sama_plugin.media.frames import FramePlan, FramePolicy, plan_frames
from tests.conftest import golden_folders

LENGTHS = st.integers(1, 400)
COUNTS = st.integers(0, 40)


@pytest.fixture(scope="module")
def golden(sama_golden):
    """Defaults and recorded frames of every case of the topic."""
    return [
        tuple(json.loads((folder / f"{part}.json").read_text()) for part in ("meta", "expected"))
        for folder in golden_folders(sama_golden, "sama_frames")
    ]


def test_released_plans(golden):
    for meta, expected in golden:
        defaults = meta["defaults"]
        assert (defaults["interval"], defaults["min_frames"]) == (3, 8), "the rule's own numbers"
        for case in expected["default"]:
            released_plan(case, defaults["max_frames"], defaults["dense_count"])
        assert expected["default"]


def released_plan(case, most, dense):
    total = case["frames"]
    sizes = {"aggregator": most, "llm": dense, "prompted": dense}
    plan = plan_frames(total, FramePolicy(**sizes, compat="released"))
    trained = plan_frames(total, FramePolicy(**sizes, compat="released-training"))
    assert list(plan.aggregator) == list(trained.aggregator) == case["sparse"]
    assert list(plan.llm) == case["dense_infer_video_frames"]
    positions = [plan.aggregator.index(frame) for frame in plan.llm]
    assert positions == case["dense_infer_positions"]
    assert list(plan.prompted) == case["sam_language_frames_infer"]
    assert list(trained.llm) == case["dense_train_video_frames"]
    positions = frames.released_dense_training(len(trained.aggregator), dense)
    assert positions == case["dense_train_positions"]
    assert frames.released_sparse(total, most) == case["sparse_rvos_positional_call"]


def test_released_rules_with_other_numbers(golden):
    for case in (one for _, expected in golden for one in expected["other_settings"]):
        numbers = case["interval"], case["max_frames"], case["min_frames"]
        sparse = frames.released_sparse(case["frames"], *numbers)
        assert sparse == case["sparse"]
        dense = frames.released_dense_training(len(sparse), case["dense_count"])
        assert dense == case["dense_train_positions"]


@settings(max_examples=80, deadline=None)
@given(
    LENGTHS,
    st.builds(
        FramePolicy,
        aggregator=COUNTS,
        llm=COUNTS,
        prompted=COUNTS,
        how=st.sampled_from(["uniform", "fps", "all", "first"]),
        fps=st.floats(0.1, 60),
    ),
    st.lists(st.integers(0, 399), max_size=5),
    st.integers(1, 5),
)
def test_every_plan_holds_together(total, policy, keep, stride):
    keep = [frame % total for frame in keep]
    plan = plan_frames(total, policy, keep, fps=24.0, stride=stride)
    assert set(plan.llm) <= set(plan.rows) and set(keep) <= set(plan.rows)
    assert list(plan.rows) == sorted({*plan.aggregator, *plan.llm, *plan.extra})
    assert not set(plan.extra) & {*plan.aggregator, *plan.llm} and set(plan.extra) <= set(keep)
    assert all(frame % stride == 0 for frame in plan.aggregator + plan.llm + plan.prompted)
    assert len(plan.prompted) == min(policy.prompted, -(-total // stride))
    if policy.prompted <= len(plan.llm):
        assert set(plan.prompted) <= set(plan.llm)  # masks where the model has looked
    if policy.aggregator:
        assert set(plan.llm) <= set(plan.aggregator)
        assert len(plan.llm) == min(policy.llm, len(plan.aggregator))
        assert policy.how == "all" or len(plan.aggregator) <= policy.aggregator
    else:
        assert plan.aggregator == ()
    assert FramePlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.integers(1, 40))
def test_uniform_frames_are_the_middles_of_equal_parts(total, count):
    plan = plan_frames(total, FramePolicy(aggregator=count, llm=count))
    if total <= count:
        assert plan.aggregator == tuple(range(total))
    else:
        assert plan.aggregator == tuple(int((i + 0.5) * total / count) for i in range(count))
    assert plan.llm == plan.aggregator


TABLE = [
    (100, dict(aggregator=4, llm=2), (12, 37, 62, 87), (37, 87), (12, 37, 62, 87)),
    (100, dict(aggregator=0, llm=2), (), (25, 75), (12, 37, 62, 87)),
    (100, dict(aggregator=0, llm=0, prompted=1), (), (), (50,)),
    (80, dict(prompted=2), (5, 15, 25, 35, 45, 55, 65, 75), (15, 35, 55, 75), (35, 75)),
    (1, dict(), (0,), (0,), (0,)),
    (4, dict(how="all", aggregator=1, llm=2), (0, 1, 2, 3), (1, 3), (0, 1, 2, 3)),
    (9, dict(how="first", aggregator=4, llm=2, prompted=3), (0, 1, 2, 3), (0, 1), (0, 1, 2)),
    (50, dict(how="fps", fps=1.0, aggregator=8, llm=2), (0, 25), (0, 25), (6, 18, 31, 43)),
    (
        50,
        dict(how="fps", fps=5.0, aggregator=5, llm=1),
        (5, 15, 25, 35, 45),
        (25,),
        (6, 18, 31, 43),
    ),
    (50, dict(how="fps", fps=50.0, aggregator=2, llm=2), (12, 37), (12, 37), (6, 18, 31, 43)),
]


@pytest.mark.parametrize(("total", "policy", "aggregator", "llm", "prompted"), TABLE)
def test_plans_by_hand(total, policy, aggregator, llm, prompted):
    plan = plan_frames(total, FramePolicy(**policy), fps=25.0)
    assert (plan.aggregator, plan.llm, plan.prompted) == (aggregator, llm, prompted)


def test_a_plan_prints_itself():
    plan = plan_frames(20, FramePolicy(aggregator=2, llm=1, prompted=1), keep=[3, 3, 5])
    assert str(plan) == (
        "20 frames; aggregator 2 [5 15]; llm 1 [15]; prompted 1 [15]; extra 1 [3]  (uniform)"
    )


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: plan_frames(0, FramePolicy()), MediaError, "has 0 frames"),
        (lambda: plan_frames(5, FramePolicy(), keep=[5]), MediaError, "frame 5 is outside"),
        (lambda: plan_frames(5, FramePolicy(how="fps", fps=1)), ConfigError, "frame rate"),
        (lambda: FramePolicy(how="fps"), ConfigError, "above 0"),
        (lambda: FramePolicy(how="random"), ConfigError, "known: uniform"),
        (lambda: FramePolicy(compat="old"), ConfigError, "known: default"),
        (lambda: FramePolicy(llm=-1), ConfigError, "frames.llm"),
        (lambda: FramePlan(5, (0,), (5,), ()), MediaError, "llm has frame 5"),
        (lambda: FramePlan(5, (2, 1), (), ()), MediaError, "not ascending"),
        (lambda: FramePlan.from_json({"llm": [1]}), MediaError, "not a frame plan"),
        (lambda: FramePlan.from_json({"total": 5, "llm": 3}), MediaError, "not a frame plan"),
        (lambda: FramePlan.from_json({"total": 5, "llm": [7]}), MediaError, "llm has frame 7"),
    ],
)
def test_plans_that_cannot_be(make, error, words):
    with pytest.raises(error, match=words):
        make()
