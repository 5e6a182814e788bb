"""Masks as arrays: boxes, exact averaging, label pictures; on real masks too."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from sama_plugin.errors import DataError, MediaError
from sama_plugin.media import masks
from tests.conftest import golden_topic

SIDES = st.integers(1, 17)


def averaged_by_definition(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Every pixel cut into height x width equal parts, so that each cell holds whole parts."""
    fine = np.repeat(np.repeat(mask.astype(float), height, 0), width, 1)
    cells = fine.reshape(height, mask.shape[0], width, mask.shape[1])
    return cells.mean(axis=(1, 3))


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, st.tuples(SIDES, SIDES)), SIDES, SIDES)
def test_averaging_is_the_definition(mask, height, width):
    ours = masks.resize_area(mask, height, width)
    assert ours.dtype == np.float32 and ours.shape == (height, width)
    np.testing.assert_allclose(ours, averaged_by_definition(mask, height, width), atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(SIDES, SIDES), elements=st.floats(-4, 4, width=32)),
    SIDES,
    SIDES,
)
def test_averaging_of_real_numbers(values, height, width):
    ours = masks.resize_area(values, height, width)
    np.testing.assert_allclose(ours, averaged_by_definition(values, height, width), atol=1e-5)


def test_averaging_is_exact_where_it_can_be():
    full = np.ones((1080, 1920), bool)
    assert (masks.resize_area(full, 7, 13) == 1).all()
    one = np.zeros((1080, 1920), bool)
    one[1079, 1919] = True
    cells = masks.resize_area(one, 16, 16)
    assert cells[15, 15] == np.float32(256 / (1080 * 1920)) and np.count_nonzero(cells) == 1
    assert np.array_equal(masks.resize_area(full[:5, :6], 5, 6), full[:5, :6])


@pytest.mark.parametrize(("shape", "grid"), [((0, 3), (2, 2)), ((3,), (2, 2)), ((3, 3), (0, 2))])
def test_averaging_refuses_nothing(shape, grid):
    with pytest.raises(DataError, match="cannot average"):
        masks.resize_area(np.ones(shape, bool), *grid)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(bool, st.tuples(SIDES, SIDES)))
def test_box_is_the_tightest(mask):
    box = masks.box_of(mask)
    if box is None:
        assert not mask.any()
        return
    x0, y0, x1, y1 = box
    assert mask[y0:y1, x0:x1].sum() == mask.sum()
    inside = mask[y0:y1, x0:x1]
    assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_box_is_that_of_the_golden_masks(sama_golden):
    folder = golden_topic(sama_golden, "rle")
    pictures = np.load(folder / "masks.npz")
    for case in json.loads((folder / "expected.json").read_text())["cases"]:
        x0, y0, x1, y1 = masks.box_of(pictures[case["name"]]) or (0, 0, 0, 0)
        assert [x0, y0, x1 - x0, y1 - y0] == case["bbox_xywh"], case["name"]


def test_label_pictures_round_trip(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    masks.write_png(tmp_path / "labels.png", labels)
    assert np.array_equal(masks.read_png(tmp_path / "labels.png"), labels)
    masks.write_png(tmp_path / "binary.png", labels > 100)
    assert np.array_equal(masks.read_png(tmp_path / "binary.png"), labels > 100)
    with Image.open(tmp_path / "binary.png") as picture:
        assert picture.mode == "L" and set(np.unique(picture)) == {0, 255}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["binary.png", "labels.png"]


@pytest.mark.parametrize(
    ("mode", "values", "labels"),
    [
        ("L", [0, 255], [0, 1]),
        ("L", [0, 0], [0, 0]),
        ("L", [0, 7], [0, 7]),
        ("L", [3, 255], [3, 255]),
        ("1", [0, 255], [0, 1]),
        ("RGB", [0, 255], [0, 1]),
        ("P", [0, 255], [0, 255]),
    ],
)
def test_values_of_label_pictures(tmp_path, mode, values, labels):
    grey = Image.fromarray(np.array([values], np.uint8))
    if mode == "P":
        picture = Image.fromarray(np.array([values], np.uint8))
        picture.putpalette(masks.index_palette().ravel().tolist())
    else:
        picture = grey.convert(mode)
    picture.save(tmp_path / "mask.png")
    assert masks.read_png(tmp_path / "mask.png").tolist() == [labels]


def test_pictures_that_are_no_labels(tmp_path):
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[0, 0] = (1, 2, 3)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(np.full((4, 4), 300, np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("colour", "deep", "empty", "missing"):
        with pytest.raises(MediaError, match=f"cannot read mask .*{name}.png"):
            masks.read_png(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match="not labels"):
        masks.write_png(tmp_path / "far.png", np.full((2, 2), 300))


def test_the_palette_is_that_of_davis(sama_golden):
    (first, *_) = sorted(golden_topic(sama_golden, "davis_jf").glob("masks/osvos/*/*.png"))
    with Image.open(first) as picture:
        theirs = np.reshape(picture.getpalette(), (-1, 3))
    assert np.array_equal(masks.index_palette()[: len(theirs)], theirs)


def test_real_davis_masks(sama_data):
    folder = sama_data / "davis_masks"
    for clip, results in json.loads((folder / "expected.json").read_text()).items():
        for result, expected in results.items():
            files = sorted((folder / result / clip).glob("*.png"))
            labels = [masks.read_png(path) for path in files]
            assert (
                len(labels) == expected["frames"] and list(labels[0].shape) == expected["size_hw"]
            )
            assert labels[0].max() == expected["max_id_in_first_frame"]
            assert max(one.max() for one in labels) == expected["max_id"]
            assert (
                sum(int((one > 0).sum()) for one in labels) == expected["foreground_pixels_total"]
            )
            for label in np.unique(labels[0]):
                mask = labels[0] == label
                assert np.array_equal(masks.decode(masks.encode(mask)), mask)


def test_real_binary_masks(sama_data):
    files = sorted((sama_data / "masks_png").glob("*/*/*.png"))
    assert files
    for path in files[::7]:
        labels = masks.read_png(path)
        with Image.open(path) as picture:
            assert np.array_equal(labels > 0, np.asarray(picture) == 255)
        packed = masks.encode(labels)
        assert masks.area(packed) == labels.sum()
        if labels.any():
            polygons = masks.to_polygons(labels)
            assert masks.from_polygons(polygons, *labels.shape) == packed


def test_real_sav_annotation(sama_data):
    folder = sama_data / "annotations" / "sav"
    for name, expected in json.loads((folder / "expected.json").read_text()).items():
        if name == "notes":
            continue
        masklet = json.loads((folder / name).read_text())["masklet"]  # (frames, objects)
        areas = np.array([[masks.area(rle) for rle in frame] for frame in masklet])
        assert areas.shape == (expected["annotated_frames"], expected["objects"])
        assert areas[0].tolist() == expected["area_first_frame"]
        assert areas.sum(0).tolist() == expected["total_area_per_object"]
        assert (areas > 0).sum(0).tolist() == expected["frames_with_object"]
        mask = masks.decode(masklet[0][0])
        assert list(mask.shape) == expected["size_hw"] and mask.sum() == areas[0, 0]
