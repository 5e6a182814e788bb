"""RLE: equal to pycocotools byte for byte, lossless, and strict about damage."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sama_plugin.errors import DataError
from sama_plugin.media import rle as codec
from tests.conftest import golden_topic

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@pytest.fixture(scope="module")
def golden(sama_golden):
    folder = golden_topic(sama_golden, "rle")
    return json.loads((folder / "expected.json").read_text()), np.load(folder / "masks.npz")


def test_golden_masks(golden):
    expected, masks = golden
    assert len(expected["cases"]) == len(masks.files)
    for case in expected["cases"]:
        mask = masks[case["name"]]
        packed = codec.encode(mask)
        assert packed == case["compressed"], case["name"]
        assert codec.run_lengths(packed).tolist() == case["uncompressed"]["counts"]
        assert codec.area(packed) == case["area"]
        for spelling in (case["compressed"], case["uncompressed"]):
            assert np.array_equal(codec.decode(spelling), mask), case["name"]


def test_golden_runs_of_length_zero(golden):
    for case in golden[0]["non_canonical"]:
        assert codec.compress(case)["counts"] == case["compressed"]
        assert codec.decode(case).astype(int).tolist() == case["mask_rows"]


def test_golden_union_intersection_and_overlap(golden):
    expected, masks = golden
    names = expected["pairwise"]["names"]
    packed = [codec.encode(masks[name]) for name in names]
    for row, first in enumerate(packed):
        for column, second in enumerate(packed):
            shared = codec.area(codec.intersect([first, second]))
            either = codec.area(codec.merge([first, second]))
            for key, area in (("iou", either), ("iou_second_is_crowd", codec.area(first))):
                wanted = expected["pairwise"][key][row][column]
                assert area == 0 or shared / area == pytest.approx(wanted, abs=1e-12)
    for case in expected["pairwise"]["merge"]:
        pair = [codec.encode(masks[case[name]]) for name in "ab"]
        assert codec.merge(pair)["counts"] == case["union"]
        assert codec.intersect(pair)["counts"] == case["intersection"]


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_equal_to_pycocotools(mask):
    from pycocotools import mask as coco

    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = codec.encode(mask)
    assert ours["counts"] == theirs["counts"].decode()
    assert codec.area(theirs) == mask.sum()
    assert np.array_equal(codec.decode(theirs), mask)  # counts as bytes
    assert np.array_equal(coco.decode(ours).astype(bool), mask)


@settings(max_examples=40, deadline=None)
@given(MASKS)
def test_every_spelling_is_lossless(mask):
    packed = codec.encode(mask)
    listed = {"size": packed["size"], "counts": codec.run_lengths(packed).tolist()}
    assert codec.compress(listed) == packed
    assert np.array_equal(codec.decode(listed), mask)
    assert json.loads(json.dumps(packed)) == packed


def test_long_runs_survive():
    runs = {"size": [16000, 16000], "counts": [1, 200_000_000, 3, 55_999_996]}
    packed = codec.compress(runs)
    assert codec.run_lengths(packed).tolist() == runs["counts"]


def test_numbers_count_as_foreground():
    labels = np.array([[0, 2], [0.5, 0]])
    assert np.array_equal(codec.decode(codec.encode(labels)), labels != 0)


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        ({"size": [2, 2]}, "not an RLE"),
        ("0<", "not an RLE"),
        ({"size": [0, 4], "counts": "0"}, "impossible size"),
        ({"size": [3], "counts": "0"}, "impossible size"),
        ({"size": None, "counts": "0"}, "impossible size"),
        ({"size": [3, 4], "counts": ""}, "damaged counts"),
        ({"size": [3, 4], "counts": "P"}, "damaged counts"),  # cut off inside a number
        ({"size": [3, 4], "counts": "0 <"}, "damaged counts"),
        ({"size": [3, 4], "counts": "0\u20ac"}, "damaged counts|do not fill"),
        ({"size": [3, 4], "counts": "o" * 20 + "0"}, "impossible length"),
        ({"size": [3, 4], "counts": "0="}, "do not fill"),
        ({"size": [3, 4], "counts": [5, 5]}, "found '2 runs, sum 10"),
        ({"size": [3, 4], "counts": [14, -2]}, "negative run"),
        ({"size": [3, 4], "counts": [1.5, 10.5]}, "neither a string nor a list"),
        ({"size": [3, 4], "counts": [[12]]}, "neither a string nor a list"),
        ({"size": [3, 4], "counts": []}, "do not fill"),
    ],
)
def test_damage_is_refused(damaged, words):
    with pytest.raises(DataError, match=words):
        codec.decode(damaged)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 5)])
def test_only_pictures_are_encoded(shape):
    with pytest.raises(DataError, match="a mask must be"):
        codec.encode(np.ones(shape, bool))


def test_masks_of_different_sizes_are_not_joined():
    with pytest.raises(DataError, match="one size"):
        codec.merge([codec.encode(np.ones((2, 3))), codec.encode(np.ones((3, 2)))])
    with pytest.raises(DataError, match="one size"):
        codec.merge([])


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize(
    "damage",
    [
        lambda code: code[:-1],
        lambda code: code + "1",
        lambda code: code[:2] + "!" + code[3:],
        lambda code: "",
        lambda code: code[:-1] + chr(ord(code[-1]) + 32),
        lambda code: chr(ord(code[0]) + 1) + code[1:],
    ],
    ids=["short", "long", "letter", "empty", "open", "run"],
)
def test_a_damaged_mask_among_many_is_found(damage, place):
    random = np.random.default_rng(place)
    rles = [codec.encode(random.random(size) < 0.3) for size in ((9, 7), (1, 1), (30, 40), (2, 90))]
    codec.check_filled(rles)
    rles[place] = {**rles[place], "counts": damage(rles[place]["counts"])}
    with pytest.raises(DataError) as expected:
        codec.run_lengths(rles[place])
    with pytest.raises(DataError) as found:
        codec.check_filled(rles)
    assert str(found.value) == str(expected.value)
