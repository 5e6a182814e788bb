"""The DAVIS tasks and statistics against the public evaluator, every block and sequence."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sama_plugin.eval.davis import overall, semi_supervised, unsupervised
from sama_plugin.eval.matching import best_assignment
from sama_plugin.eval.series import summarise


@pytest.fixture(scope="module")
def davis(sama_golden):
    folder = sama_golden / "davis_jf"
    read = {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in ("expected", "inputs", "statistics_inputs")
    }
    return folder, read


def labels(folder, sequence):
    files = sorted((folder / sequence).glob("*.png"))
    return np.stack([np.asarray(Image.open(file)) for file in files])


def blocks(folder, read):
    """(expected block, task, target folder, prediction folder, sequences) of every block."""
    folders, count = read["inputs"]["folders"], read["inputs"]["object_count"]
    for name, block in read["expected"].items():
        task, *sides = name.split("__")
        if task in ("semi_supervised", "unsupervised"):
            gt, pred = (folder / folders[side.split("_", 1)[1]] for side in sides)
            yield name, block, task, gt, pred, read["inputs"]["sequences"]
        elif task == "object_count":
            yield (
                name,
                block,
                sides[0],
                folder / count["gt"],
                folder / count["pred"],
                count["sequences"],
            )


FEW_OBJECTS = 12
"""Blocks with more objects take minutes and run among the slow tests."""


@pytest.mark.parametrize(
    "many", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["small", "large"]
)
def test_tasks(davis, many):
    folder, read = davis
    seen = 0
    for name, block, task, gt, pred, sequences in blocks(folder, read):
        if many != (len(block["objects"]) > FEW_OBJECTS):
            continue
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
            assert scores[key].region == pytest.approx(wanted["J"]["per_frame"], abs=1e-9), key
            assert scores[key].boundary == pytest.approx(wanted["F"]["per_frame"], abs=1e-9), key
            assert scores[key].region_series.decay == pytest.approx(wanted["J"]["decay"], abs=1e-9)
        for sequence, wanted in block.get("assignment_proposal_gt", {}).items():
            assert [list(pair) for pair in pairs[sequence]] == wanted, sequence
        seen += 1
    assert seen >= 2


def test_statistics(davis):
    _, read = davis
    for name, values in read["statistics_inputs"].items():
        found = summarise([float(value) for value in values])
        wanted = read["expected"]["statistics"][name]
        for key, value in wanted.items():
            assert getattr(found, key) == pytest.approx(float(value), abs=1e-9, nan_ok=True), name


@settings(max_examples=10)
@given(st.lists(st.floats(0, 1), min_size=300, max_size=310))
def test_long_clips_have_a_decay_of_their_quarters(values):
    ramp = summarise(np.linspace(1, 0, len(values)))
    assert 0.7 < ramp.decay < 0.8  # 8-bit frame numbers would give something else
    assert -1 <= summarise(values).decay <= 1


def test_assignment_is_the_best_total():
    quality = np.array([[0.9, 0.8], [0.8, 0.1]])
    assert best_assignment(quality) == [(0, 1), (1, 0)]  # greedy would take 0.9 + 0.1
