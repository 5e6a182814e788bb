"""Polygons: COCO's rasteriser, and a way back that loses nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sama_plugin.errors import DataError
from sama_plugin.media.polygons import from_polygons, to_polygons
from sama_plugin.media.rle import area, decode
from tests.conftest import golden_topic


def test_golden(sama_golden):
    expected = json.loads((golden_topic(sama_golden, "rle") / "expected.json").read_text())
    for case in expected["polygons"]:
        union = from_polygons(case["polygons"], *case["size"])
        assert union["counts"] == case["union"]["counts"] and area(union) == case["union"]["area"]
        rings = [decode(from_polygons([ring], *case["size"])) for ring in case["polygons"]]
        assert np.sum(rings, axis=0).max() == case["max_of_summed_rings"]
        for ring, one in zip(case["polygons"], case["per_ring"]):
            pairs = np.reshape(ring, (-1, 2))
            alone = from_polygons([pairs], *case["size"])
            assert alone["counts"] == one["counts"] and area(alone) == one["area"]


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))))
def test_back_and_forth_is_exact_with_holes_and_touching_corners(mask):
    polygons = to_polygons(mask)
    if not mask.any():
        assert polygons == []
    else:
        assert np.array_equal(decode(from_polygons(polygons, *mask.shape)), mask)


def test_a_rectangle_has_four_corners():
    mask = np.zeros((20, 30), bool)
    mask[4:9, 6:21] = True
    (polygon,) = to_polygons(mask)
    assert sorted(zip(polygon[::2], polygon[1::2])) == [(6, 4), (6, 9), (21, 4), (21, 9)]


@pytest.mark.parametrize(
    "polygons",
    [
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1e9] * 6],
        ["abc"],
    ],
)
def test_unusable_polygons(polygons):
    with pytest.raises(DataError, match="polygon"):
        from_polygons(polygons, 10, 10)
