"""Region rules: the number of tokens is known before any pixel, and is what comes out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sama_plugin.data.regions import (
    Crop,
    PixelReferRule,
    cell_centres,
    crop_box,
    nearest,
    region_rule,
)
from sama_plugin.dialog.sample import Region
from sama_plugin.errors import ConfigError
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.model.config import RegionConfig
from sama_plugin.nn.region import build_region_encoder

SIZE, GRID, WIDTH = (40, 60), (4, 4), 6
KINDS = ("sama", "videorefer", "pixelrefer")


def box(frame, *corners):
    return RegionPrompt.from_box(frame, corners)


REGIONS = (
    Region((box(3, 2, 2, 30, 30), box(1, 0, 0, 9, 5))),  # later frame first
    Region(()),
    Region(tuple(box(frame, 20, 10, 22, 12) for frame in range(6))),
    Region((box(2, 0, 0, 4, 4), box(2, 50, 30, 60, 40))),  # twice on one frame
    Region((RegionPrompt.from_points(5, [(59, 39)]),)),
)


def rule(kind, compat="default", **sizes):
    config = RegionConfig(kind=kind, shape_size=8, shape_hidden=4, unions=3, cells=5)
    return config, region_rule(config, GRID, compat)


@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_makes_as_many_tokens_as_the_rule_said(kind):
    config, made = rule(kind)
    slots = [made.slots(region, SIZE) for region in REGIONS]
    entries = made.entries(REGIONS, SIZE)
    rows = {seen: number for number, seen in enumerate(dict.fromkeys(entries.seen))}
    encoder = build_region_encoder(config, WIDTH, 8)
    torch.manual_seed(0)
    encoded = encoder(
        torch.randn(len(rows), 16, WIDTH),
        torch.tensor([rows[seen] for seen in entries.seen]),
        torch.from_numpy(entries.weights),
        torch.from_numpy(entries.shape),
        torch.tensor(entries.owner),
        len(REGIONS),
        None if entries.place is None else torch.from_numpy(entries.place),
    )
    assert encoded.tokens.flatten(0, -2).shape[0] == sum(slots)
    expected = {"sama": [2] * 5, "videorefer": [2, 1, 3, 1, 1]}
    assert slots == expected.get(kind, slots)


@pytest.mark.parametrize("kind", KINDS)
def test_each_region_gets_its_own_tokens(kind):
    """One by one or together, the tokens are the same: no region reads another's cells."""
    config, made = rule(kind)
    torch.manual_seed(0)
    encoder, features = build_region_encoder(config, WIDTH, 8), torch.randn(12, 16, WIDTH)

    def tokens(regions, rows):
        entries = made.entries(regions, SIZE)
        place = None if entries.place is None else torch.from_numpy(entries.place)
        return encoder(
            features,
            torch.tensor([rows[seen] for seen in entries.seen], dtype=torch.long),
            torch.from_numpy(entries.weights),
            torch.from_numpy(entries.shape),
            torch.tensor(entries.owner, dtype=torch.long),
            len(regions),
            place,
        ).tokens.flatten(0, -2)

    seen = made.entries(REGIONS, SIZE).seen
    rows = {row: number % 12 for number, row in enumerate(dict.fromkeys(seen))}
    alone = [tokens([region], rows) for region in REGIONS]
    torch.testing.assert_close(tokens(REGIONS, rows), torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_videorefer_reads_frames_in_time_order_and_prompts_of_one_frame_together():
    _, made = rule("videorefer")
    entries = made.entries(REGIONS, SIZE)
    assert entries.owner == [0, 0, *[2] * 6, 3, 4]
    assert entries.seen == [1, 3, *range(6), 2, 5]
    both = entries.weights[entries.owner.index(3)].reshape(GRID)
    assert both[0, 0] > 0 and both[-1, -1] > 0


def test_released_videorefer_cannot_be_trained():
    _, made = rule("videorefer", "released")
    with pytest.raises(ConfigError, match="only after the vision tower"):
        made.slots(REGIONS[0], SIZE)
    cells = made.entries(REGIONS, SIZE).weights
    assert set(np.unique(cells)) == {0, 1} and cells[2].sum() == 0  # too small to be touched


def test_released_sama_reads_one_drawn_frame_as_a_filled_box():
    corner = np.zeros(SIZE, bool)
    corner[5:20, 5] = corner[5, 5:40] = True
    regions = [Region(tuple(RegionPrompt.from_mask(frame, corner) for frame in range(9)))] * 3
    config, made = rule("sama", "released")
    entries = made.entries(regions, SIZE)
    assert entries.owner == [0, 1, 2] and entries.seen == made.entries(regions, SIZE).seen
    assert entries.seen != region_rule(config, GRID, "released", seed=1).entries(regions, SIZE).seen
    box = np.zeros(SIZE, bool)
    box[5:20, 5:40] = True
    assert np.array_equal(entries.shape[0], nearest(box, 8, 8)) and entries.shape[0].sum() > 8


@pytest.mark.parametrize("shape", [(7, 5), (4, 16), (33, 2)])
def test_nearest_is_the_released_resize(shape):
    mask = np.random.default_rng(0).random((23, 31)) > 0.5
    pixels = torch.from_numpy(mask)[None, None].float()
    wanted = torch.nn.functional.interpolate(pixels, shape, mode="nearest")[0, 0].numpy()
    assert np.array_equal(nearest(mask, *shape), wanted)


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        ((20, 10, 30, 20), (18, 8, 32, 22)),  # half as large again, around it (14.5, even)
        ((0, 0, 4, 4), (0, 0, 6, 6)),  # moved into the frame
        ((55, 35, 60, 40), (52, 32, 60, 40)),
        ((0, 0, 60, 40), (0, 0, 60, 40)),  # all there is
        ((30, 20, 31, 21), (28, 18, 32, 22)),  # not less than the grid has cells
    ],
)
def test_crops_are_squares_around_the_thing_inside_the_frame(thing, expected):
    x0, y0, x1, y1 = found = crop_box(thing, SIZE, 0.5, 4)
    assert 0 <= x0 <= thing[0] and thing[2] <= x1 <= SIZE[1]
    assert 0 <= y0 <= thing[1] and thing[3] <= y1 <= SIZE[0]
    assert all(abs(a - b) <= 1 for a, b in zip(found, expected))


def test_places_are_x_and_y_of_the_whole_frame():
    centres = cell_centres((10, 20, 30, 40), (2, 4), (40, 60)).reshape(2, 4, 2)
    assert np.allclose(centres[0, 0], ((10 + 2.5) / 60, (20 + 5) / 40))
    assert np.allclose(centres[1, 3], ((30 - 2.5) / 60, (40 - 5) / 40))


def test_small_and_large_things_cover_as_many_cells():
    made = PixelReferRule((16, 16), 8, 10**6, 0.5)
    size = (400, 600)
    small, large = (
        Region((RegionPrompt.from_box(0, corners),))
        for corners in ((300, 200, 318, 218), (100, 50, 400, 350))
    )
    assert abs(made.slots(small, size) - made.slots(large, size)) <= 30
    assert 80 <= made.slots(small, size) <= 150


def test_one_crop_for_two_mentions_of_a_region():
    _, made = rule("pixelrefer")
    entries = made.entries([REGIONS[4], REGIONS[4]], SIZE)
    assert len(entries.seen) == 2 and len(entries.crops) == 1
    assert isinstance(entries.crops[0], Crop)
    frame = np.arange(SIZE[0] * SIZE[1] * 3).reshape(*SIZE, 3)
    x0, y0, x1, y1 = entries.crops[0].box
    assert np.array_equal(entries.crops[0].cut(frame), frame[y0:y1, x0:x1])
