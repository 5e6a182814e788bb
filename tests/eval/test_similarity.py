"""J and F against the DAVIS reference, case by case."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sama_plugin.eval import bitmaps
from sama_plugin.eval.similarity import both, boundary_accuracy, every_pair, region_similarity
from tests.eval.golden import topics


@pytest.fixture(scope="module")
def davis(sama_golden):
    return topics(sama_golden, "davis_jf")


def test_synthetic_pairs(davis):
    for topic in davis:
        pairs = np.load(topic.folder / "synthetic_inputs.npz")
        for name, numbers in topic.read("expected")["synthetic"].items():
            target, prediction = pairs[f"{name}__gt"] > 0, pairs[f"{name}__pred"] > 0
            if f"{name}__void" in pairs:
                keep = pairs[f"{name}__void"] == 0
                target, prediction = target & keep, prediction & keep
            check(target[None], prediction[None], numbers, name)


def check(target, prediction, numbers, name):
    assert region_similarity(target, prediction)[0] == pytest.approx(numbers["J"], abs=1e-9), name
    assert boundary_accuracy(target, prediction)[0] == pytest.approx(numbers["F"], abs=1e-9), name
    for key in numbers.keys() - {"J", "F"}:
        (pixels,) = re.fullmatch(r"F_bound_th_(\d+)px", key).groups()
        found = boundary_accuracy(target, prediction, tolerance=int(pixels))[0]
        assert found == pytest.approx(numbers[key], abs=1e-9), (name, key)


def test_real_masks_are_equal_to_the_last_bit(davis):
    seen = 0
    for topic in davis:
        folders = topic.read("inputs")["folders"]
        for block, sequences in topic.read("expected").items():
            task, *sides = block.split("__")
            if task != "foreground_all_frames":
                continue
            kinds = [topic.folder / folders[side.split("_", 1)[1]] for side in sides]
            for sequence, numbers in sequences.items():
                masks = [foreground(kind / sequence, numbers["frames"]) for kind in kinds]
                assert np.array_equal(region_similarity(*masks), numbers["J"]), sequence
                assert np.array_equal(boundary_accuracy(*masks), numbers["F"]), sequence
                seen += 1
    assert seen


def foreground(folder, frames):
    from PIL import Image

    return np.stack([np.asarray(Image.open(folder / f"{frame}.png")) > 0 for frame in frames])


WIDTHS = st.sampled_from([1, 7, 63, 64, 65, 130])


@given(st.data(), WIDTHS)
def test_packing_is_undone_and_counts(data, width):
    masks = data.draw(arrays(bool, (2, 3, width)))
    words = bitmaps.pack(masks)
    assert np.array_equal(bitmaps.unpack(words, width), masks)
    assert np.array_equal(bitmaps.count(words), masks.sum((1, 2)))


def test_counting_without_the_newest_numpy(monkeypatch):
    masks = np.random.default_rng(0).random((2, 5, 70)) < 0.5
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert np.array_equal(bitmaps.count(bitmaps.pack(masks)), masks.sum((1, 2)))


@settings(max_examples=40)
@given(st.data(), WIDTHS, st.integers(0, 9))
def test_dilation_is_the_disk(data, width, radius):
    masks = data.draw(arrays(bool, (2, 9, width)))
    y, x = np.mgrid[:9, :width]
    expected = np.zeros_like(masks)
    for frame, row, column in np.argwhere(masks):
        expected[frame] |= (y - row) ** 2 + (x - column) ** 2 <= radius**2
    grown = bitmaps.unpack(bitmaps.dilate(bitmaps.pack(masks), radius), width)
    assert np.array_equal(grown, expected)


@settings(max_examples=40)
@given(st.data(), WIDTHS)
def test_outlines_differ_from_a_neighbour(data, width):
    masks = data.draw(arrays(bool, (2, 4, width)))
    padded = np.pad(masks, ((0, 0), (0, 1), (0, 1)), mode="edge")
    others = padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]
    expected = np.logical_or.reduce([masks ^ other for other in others])
    lines = bitmaps.outline(bitmaps.pack(masks), width - 1)
    assert np.array_equal(bitmaps.unpack(lines, width), expected)


@given(st.integers(0, 200), st.integers(0, 30))
def test_cutting_out_changes_nothing(column, row):
    """Small masks anywhere in a wide picture: the part that is looked at has their surroundings."""
    target, prediction = np.zeros((2, 1, 40, 210), bool)
    target[0, row : row + 6, column : column + 9] = True
    prediction[0, row : row + 8, max(0, column - 3) : column + 4] = True
    (whole,) = every_pair([prediction], [target])[0]  # does not cut out
    assert np.array_equal(both(target, prediction), whole)


@given(arrays(bool, (1, 12, 13)), arrays(bool, (1, 12, 13)))
def test_f_is_symmetric_and_bounded(one, other):
    forward, backward = boundary_accuracy(one, other)[0], boundary_accuracy(other, one)[0]
    assert 0 <= forward <= 1 and forward == pytest.approx(backward)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="equal shape"):
        region_similarity(np.zeros((1, 2, 2), bool), np.zeros((1, 2, 3), bool))
