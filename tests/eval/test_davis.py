"""The DAVIS tasks and statistics against the public evaluator, every block and sequence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sama_plugin.eval.davis import overall, semi_supervised, unsupervised
from sama_plugin.eval.matching import best_assignment
from sama_plugin.eval.series import summarise
from tests.eval.golden import topics

ELSEWHERE = ("foreground_all_frames", "synthetic", "statistics")
"""Blocks that `test_similarity` and `test_statistics` compare."""


@pytest.fixture(scope="module")
def davis(sama_golden):
    return topics(sama_golden, "davis_jf")


def labels(folder, sequence):
    files = sorted((folder / sequence).glob("*.png"))
    return np.stack([np.asarray(Image.open(file)) for file in files])


def blocks(topic):
    """(expected block, task, target folder, prediction folder, sequences) of every block."""
    inputs = topic.read("inputs")
    for name, block in topic.read("expected").items():
        task, *sides = name.split("__")
        if task in ("semi_supervised", "unsupervised"):
            gt, pred = (inputs["folders"][side.split("_", 1)[1]] for side in sides)
            sequences = inputs["sequences"]
        elif task == "object_count":
            (task,), count = sides, inputs["object_count"]
            gt, pred, sequences = (count[part] for part in ("gt", "pred", "sequences"))
        else:
            assert task in ELSEWHERE, f"{topic.folder}: no test knows the block {name}"
            continue
        yield name, block, task, topic.folder / gt, topic.folder / pred, sequences


def test_tasks(davis):
    seen = 0
    found = (block for topic in davis for block in blocks(topic))
    for name, block, task, gt, pred, sequences in found:
        scores, pairs = {}, {}
        for sequence in sequences:
            target, prediction = labels(gt, sequence), labels(pred, sequence)
            if task == "semi_supervised":
                found = semi_supervised(target, prediction)
            else:
                found, pairs[sequence] = unsupervised(target, prediction)
            scores.update({f"{sequence}_{number}": score for number, score in found.items()})
        assert set(scores) == set(block["objects"]), name
        assert overall(scores) == pytest.approx(block["global"], abs=1e-9), name
        for key, wanted in block["objects"].items():
            one = scores[key]
            check_object(wanted["J"], one.region, one.region_series, (name, key))
            check_object(wanted["F"], one.boundary, one.boundary_series, (name, key))
        for sequence, wanted in block.get("assignment_proposal_gt", {}).items():
            assert [list(pair) for pair in pairs[sequence]] == wanted, sequence
        seen += 1
    assert seen


def check_object(wanted, frames, series, place):
    assert frames == pytest.approx(wanted["per_frame"], abs=1e-9), place
    for statistic in ("mean", "recall", "decay"):
        found = getattr(series, statistic)
        assert found == pytest.approx(wanted[statistic], abs=1e-9), (place, statistic)


def test_statistics(davis):
    for topic in davis:
        expected = topic.read("expected")["statistics"]
        for name, values in topic.read("statistics_inputs").items():
            found = summarise([float(value) for value in values])
            for key, value in expected[name].items():
                wanted = pytest.approx(float(value), abs=1e-9, nan_ok=True)
                assert getattr(found, key) == wanted, name


@settings(max_examples=10)
@given(st.lists(st.floats(0, 1), min_size=300, max_size=310))
def test_long_clips_have_a_decay_of_their_quarters(values):
    ramp = summarise(np.linspace(1, 0, len(values)))
    assert 0.7 < ramp.decay < 0.8  # 8-bit frame numbers would give something else
    assert -1 <= summarise(values).decay <= 1


def test_assignment_is_the_best_total():
    quality = np.array([[0.9, 0.8], [0.8, 0.1]])
    assert best_assignment(quality) == [(0, 1), (1, 0)]  # greedy would take 0.9 + 0.1
