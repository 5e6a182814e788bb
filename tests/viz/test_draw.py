"""Drawing: only what is there is drawn, ids keep their colours, labels keep apart."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sama_plugin.errors import DataError
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.viz import draw
from sama_plugin.viz.colours import PALETTE, colour_of, hex_of, ink_on
from sama_plugin.viz.draw import contact_sheet, overlay
from sama_plugin.viz.tags import tag

FRAMES = np.random.default_rng(0).integers(60, 120, (3, 48, 64, 3), dtype=np.uint8)


def track_of(box, frames=(0, 1, 2)) -> MaskTrack:
    masks = np.zeros((3, 48, 64), bool)
    x0, y0, x1, y1 = box
    for frame in frames:
        masks[frame, y0:y1, x0:x1] = True
    return MaskTrack.from_masks(masks)


def changed(drawn: np.ndarray, frames: np.ndarray = FRAMES) -> np.ndarray:
    plain = overlay(frames, least_side=0) if drawn.shape == frames.shape else overlay(frames)
    return (drawn != plain).any(-1)


def test_colours_are_stable_and_differ():
    assert colour_of(0) == PALETTE[0] and colour_of(3) == PALETTE[3]
    assert (colour_of(40), colour_of("dog"), hex_of("dog")) == (
        (141, 87, 250),
        (138, 112, 250),
        "#8a70fa",
    )
    several = np.array([colour_of(number) for number in range(24)])
    apart = np.abs(several[:, None] - several[None]).sum(-1) + 1000 * np.eye(24, dtype=int)
    assert apart.min() > 24 and apart[:12, :12].min() > 60
    assert ink_on((255, 255, 255)) != ink_on((0, 0, 0))


def test_nothing_drawn_is_nothing_changed():
    empty = MaskTrack((48, 64), 3, {0: None})
    assert np.array_equal(overlay(FRAMES, [None, empty], ["a", "b"], [1, 2], least_side=0), FRAMES)
    assert overlay(FRAMES[:0]).shape == (0, 48, 64, 3)


def test_a_mask_is_filled_and_the_rest_left_alone():
    drawn = overlay(FRAMES, [track_of((20, 10, 40, 30), frames=[1])], least_side=0)
    assert np.array_equal(drawn[[0, 2]], FRAMES[[0, 2]])
    touched = changed(drawn)[1]
    assert touched[10:30, 20:40].all()
    touched[6:34, 16:44] = False  # outline and rim
    assert not touched.any()
    inside = drawn[1, 15:25, 25:35].astype(int)
    expected = FRAMES[1, 15:25, 25:35] * 0.58 + np.array(colour_of(0)) * 0.42
    assert np.abs(inside - expected).max() <= 2


def test_frames_are_looked_up_by_their_index_in_the_source():
    track = track_of((20, 10, 40, 30), frames=[2])
    drawn = overlay(FRAMES[[2, 0]], [track], indices=[2, 0], least_side=0)
    assert changed(drawn, FRAMES[[2, 0]]).any((1, 2)).tolist() == [True, False]


def test_an_id_has_its_colour_in_any_order():
    one, two = track_of((2, 20, 12, 40)), track_of((50, 20, 60, 40))
    forth = overlay(FRAMES, [one, two], ids=[5, 9])
    back = overlay(FRAMES, [two, one], ids=[9, 5])
    assert np.array_equal(forth, back)


def test_one_pixel_can_be_seen():
    drawn = overlay(FRAMES, [track_of((30, 20, 31, 21))])
    scale = draw.enlargement(48, 64)
    assert (
        drawn.shape == (3, 48 * scale, 64 * scale, 3) and min(drawn.shape[1:3]) >= draw.LEAST_SIDE
    )
    touched = changed(drawn)[0]
    assert touched.sum() > scale * scale
    y, x = np.nonzero(touched)
    assert abs(y.mean() / scale - 20.5) < 0.6 and abs(x.mean() / scale - 30.5) < 0.6


@pytest.mark.parametrize(
    ("height", "width", "factor"),
    [(48, 64, 10), (480, 640, 1), (8, 1000, 4), (2000, 3, 2), (100, 20000, 1)],
)
def test_a_thin_frame_is_not_enlarged_beyond_what_encoders_take(height, width, factor):
    assert draw.enlargement(height, width) == factor


@pytest.mark.parametrize("box", [(0, 0, 64, 48), (0, 0, 1, 1), (63, 47, 64, 48), (0, 47, 64, 48)])
def test_masks_at_the_edge(box):
    drawn = overlay(
        FRAMES, [track_of(box)], ["a phrase that is much wider than this small frame"], [7]
    )
    scale = draw.enlargement(48, 64)
    x0, y0, x1, y1 = (side * scale for side in box)
    assert changed(drawn)[0, y0:y1, x0:x1].mean() > 0.9


@pytest.mark.parametrize(
    "prompt",
    [
        RegionPrompt.from_box(1, (5, 5, 30, 40)),
        RegionPrompt.from_box(1, (0, 0, 64, 48)),
        RegionPrompt.from_points(1, [(10, 10), (50, 40)], labels=[1, 0]),
        RegionPrompt.from_scribble(1, [(5, 5), (40, 9), (20, 40)]),
        RegionPrompt.from_scribble(1, [(5, 5)]),
        RegionPrompt.from_mask(1, track_of((20, 10, 40, 30)).mask(0)),
    ],
    ids=lambda prompt: prompt.kind,
)
def test_prompts_are_drawn_on_their_frame(prompt):
    drawn = overlay(FRAMES, prompts={"dog": [prompt]})
    touched = changed(drawn).any((1, 2))
    assert touched.tolist() == [False, True, False]
    assert (drawn[1] == colour_of("dog")).all(-1).any()


def test_labels_keep_apart():
    tracks = [track_of((20, 10, 40, 30)) for _ in range(5)]
    placed: list = []
    canvas = Image.new("RGB", (640, 480))
    for number, _ in enumerate(tracks):
        draw._place(
            canvas, tag(f"thing {number}", colour_of(number), 16), (200, 100, 400, 300), placed
        )
    assert len(placed) == 5
    assert not any(draw._overlap(a, b) for i, a in enumerate(placed) for b in placed[:i])
    assert all(x0 >= 0 and y0 >= 0 and x1 <= 640 and y1 <= 480 for x0, y0, x1, y1 in placed)


def test_labels_show_their_words():
    plain, other = tag("red cup", (255, 90, 95), 16), tag("blue cup", (255, 90, 95), 16)
    with_id = tag("red cup", (255, 90, 95), 16, "3")
    assert plain.tobytes() != other.tobytes() and with_id.width > plain.width
    assert tag("w" * 400, (0, 0, 0), 12).width == tag("w" * 500, (0, 0, 0), 12).width


def test_arguments_that_do_not_fit():
    track = track_of((1, 1, 5, 5))
    with pytest.raises(DataError, match="1 tracks with 2 labels"):
        overlay(FRAMES, [track], ["a", "b"])
    with pytest.raises(DataError, match="1 tracks with 2 ids"):
        overlay(FRAMES, [track], ids=[1, 2])
    with pytest.raises(DataError, match="another size than its frame"):
        overlay(FRAMES[:, :40], [track])


def test_contact_sheets():
    coloured = [np.full((30, 40, 3), colour_of(number), np.uint8) for number in range(5)]
    sheet = contact_sheet(coloured, columns=3, labels=[f"frame {n}" for n in range(5)], cell=120)
    titled = contact_sheet(coloured, columns=3, title="five", cell=120)
    assert sheet.dtype == np.uint8 and sheet.shape[1] > 3 * 120 and sheet.shape[0] > 2 * 90
    assert titled.shape[0] > sheet.shape[0] and titled.shape[1] == sheet.shape[1]
    order = [np.argwhere((sheet == colour_of(n)).all(-1)).mean(0) for n in range(5)]  # (y, x)
    assert order[0][1] < order[1][1] < order[2][1] and order[3][0] > order[0][0] + 80
    assert contact_sheet(coloured[:1], columns=9, cell=120).shape[1] < 150
    with pytest.raises(DataError, match="5 frames with 1 labels"):
        contact_sheet(coloured, labels=["a"])
    with pytest.raises(DataError, match="0 frames"):
        contact_sheet([])
