"""Region prompts: which pixels they mean, what is refused, and that JSON keeps them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sama_plugin.errors import RegionError, SamaError
from sama_plugin.media import masks
from sama_plugin.media.prompts import RegionPrompt

HEIGHT, WIDTH, TOTAL = 40, 60, 9
INSIDE = st.tuples(st.floats(0, WIDTH - 0.01), st.floats(0, HEIGHT - 0.01))

BLOB = np.zeros((HEIGHT, WIDTH), bool)
BLOB[5:20, 10:30] = True


def valid_prompts() -> dict[str, RegionPrompt]:
    return {
        "mask": RegionPrompt.from_mask(3, BLOB),
        "mask from RLE": RegionPrompt.from_mask(3, masks.encode(BLOB)),
        "mask from run lengths": RegionPrompt.from_mask(
            3, {"size": [HEIGHT, WIDTH], "counts": masks.run_lengths(masks.encode(BLOB)).tolist()}
        ),
        "box": RegionPrompt.from_box(0, [10, 5, 30, 20]),
        "thin box": RegionPrompt.from_box(0, (10.2, 5.6, 10.4, 5.9)),
        "whole frame": RegionPrompt.from_box(8, (0, 0, WIDTH, HEIGHT)),
        "points": RegionPrompt.from_points(2, [(12, 7), (50.5, 30.5)], radius=3),
        "points beside": RegionPrompt.from_points(2, [(12, 7), (13, 7)], labels=[1, 0]),
        "one point": RegionPrompt.from_points(2, (59.9, 39.9)),
        "scribble": RegionPrompt.from_scribble(4, [(5, 5), (50, 30), (10, 35)], width=4),
        "scribbled dot": RegionPrompt.from_scribble(4, [(5, 5)]),
    }


@pytest.mark.parametrize("name", valid_prompts())
def test_valid_prompts_mean_pixels_and_survive_json(name):
    prompt = valid_prompts()[name]
    assert prompt.validate(HEIGHT, WIDTH, TOTAL) is prompt
    pixels = prompt.mask_array(HEIGHT, WIDTH)
    assert pixels.shape == (HEIGHT, WIDTH) and pixels.dtype == bool and pixels.any()
    again = RegionPrompt.from_json(json.loads(json.dumps(prompt.to_json())))
    assert again == prompt and hash(again) == hash(prompt)


def test_masks_and_boxes_mean_themselves():
    for name in ("mask", "mask from RLE", "mask from run lengths", "box"):
        assert np.array_equal(valid_prompts()[name].mask_array(HEIGHT, WIDTH), BLOB), name


@settings(max_examples=40, deadline=None)
@given(INSIDE, INSIDE)
def test_every_box_with_area_means_a_pixel(one, two):
    (x0, x1), (y0, y1) = sorted([one[0], two[0]]), sorted([one[1], two[1]])
    prompt = RegionPrompt.from_box(0, (x0, y0, x1, y1))
    if x0 < x1 and y0 < y1:
        prompt.validate(HEIGHT, WIDTH, 1)
        box = masks.box_of(prompt.mask_array(HEIGHT, WIDTH))
        assert (
            box[0] >= int(x0)
            and box[1] >= int(y0)
            and box[2] <= int(x1) + 1
            and box[3] <= int(y1) + 1
        )
    else:
        with pytest.raises(RegionError, match="no area"):
            prompt.validate(HEIGHT, WIDTH, 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(INSIDE, min_size=1, max_size=4), st.floats(0, 9))
def test_discs_and_lines_stay_within_their_radius(points, radius):
    clicked = RegionPrompt.from_points(0, points, radius=radius).validate(HEIGHT, WIDTH, 1)
    drawn = RegionPrompt.from_scribble(0, points, width=2 * radius).validate(HEIGHT, WIDTH, 1)
    y, x = np.nonzero(clicked.mask_array(HEIGHT, WIDTH))
    far = np.min([np.hypot(x + 0.5 - px, y + 0.5 - py) for px, py in points], axis=0)
    reach = radius or 1.0
    assert (far <= np.maximum(reach, np.sqrt(0.5)) + 1e-6).all()  # the clicked pixel always counts
    line = drawn.mask_array(HEIGHT, WIDTH)
    assert all(line[int(py), int(px)] for px, py in points)
    assert (
        line | clicked.mask_array(HEIGHT, WIDTH)
    ).sum() == line.sum()  # a line covers its corners


def test_a_click_beside_takes_away():
    plain = RegionPrompt.from_points(0, [(20, 20)], radius=6).mask_array(HEIGHT, WIDTH)
    both = RegionPrompt.from_points(0, [(20, 20), (24, 20)], labels=[1, 0], radius=6)
    pixels = both.mask_array(HEIGHT, WIDTH)
    assert pixels[20, 20] and not pixels[20, 24] and pixels.sum() < plain.sum()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (lambda: RegionPrompt.from_box(9, (0, 0, 5, 5)), "on frame 9, the clip has 9 frames"),
        (lambda: RegionPrompt.from_box(-1, (0, 0, 5, 5)), "on frame -1"),
        (lambda: RegionPrompt.from_box(0, (5, 5, 5, 9)), "no area"),
        (lambda: RegionPrompt.from_box(0, (9, 9, 5, 5)), "no area"),
        (
            lambda: RegionPrompt.from_box(0, (50, 5, 61, 9)),
            "its part inside is .50.0, 5.0, 60, 9.0",
        ),
        (lambda: RegionPrompt.from_box(0, (70, 5, 80, 9)), "no part of it is inside"),
        (lambda: RegionPrompt.from_box(0, (-1, 5, 8, 9)), "leaves the frame"),
        (lambda: RegionPrompt.from_mask(0, np.zeros((HEIGHT, WIDTH))), "empty"),
        (
            lambda: RegionPrompt.from_mask(0, np.ones((WIDTH, HEIGHT))),
            "40 x 60 pixels, the frame has 60",
        ),
        (lambda: RegionPrompt.from_points(0, [(5, 40)]), "outside the frame"),
        (lambda: RegionPrompt.from_points(0, [(5, 4)], labels=[0]), "all say what it is not"),
        (lambda: RegionPrompt.from_scribble(0, [(5, 4), (60, 4)]), "outside the frame"),
    ],
)
def test_prompts_that_do_not_fit_the_clip(prompt, words):
    with pytest.raises(RegionError, match=words):
        prompt().validate(HEIGHT, WIDTH, TOTAL)


def test_a_mask_of_another_size_is_not_drawn():
    with pytest.raises(RegionError, match="resize the mask"):
        RegionPrompt.from_mask(0, BLOB).mask_array(HEIGHT, WIDTH + 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RegionPrompt("ellipse", 0),
        lambda: RegionPrompt("box", 0),
        lambda: RegionPrompt.from_box(0, (1, 2, 3)),
        lambda: RegionPrompt.from_box(0, (1, 2, 3, float("nan"))),
        lambda: RegionPrompt.from_box(1.5, (1, 2, 3, 4)),
        lambda: RegionPrompt.from_box("first", (1, 2, 3, 4)),
        lambda: RegionPrompt.from_box(None, (1, 2, 3, 4)),
        lambda: RegionPrompt.from_box(float("inf"), (1, 2, 3, 4)),
        lambda: RegionPrompt.from_box(float("nan"), (1, 2, 3, 4)),
        lambda: RegionPrompt.from_mask(0, np.full((2, 3), np.nan)),
        lambda: RegionPrompt.from_box(0, "abcd"),
        lambda: RegionPrompt.from_points(0, []),
        lambda: RegionPrompt.from_points(0, [(1, 2, 3)]),
        lambda: RegionPrompt.from_points(0, [(1, 2)], labels=[1, 1]),
        lambda: RegionPrompt.from_points(0, [(1, 2)], labels=[2]),
        lambda: RegionPrompt.from_points(0, [(1, 2)], radius=-1),
        lambda: RegionPrompt.from_scribble(0, [(1, 2)], width=float("inf")),
        lambda: RegionPrompt.from_mask(0, np.ones((2, 3, 4))),
        lambda: RegionPrompt.from_mask(0, {"counts": "0"}),
        lambda: RegionPrompt.from_json({"kind": "box"}),
        lambda: RegionPrompt.from_json({"kind": "star", "frame": 0}),
        lambda: RegionPrompt.from_json(None),
    ],
)
def test_prompts_that_are_none(make):
    with pytest.raises(SamaError):
        make()
