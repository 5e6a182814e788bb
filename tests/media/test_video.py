"""Clips that are pictures: folders, arrays, lists, GIFs, stills."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sama_plugin.errors import MediaError
from sama_plugin.media.video import UNTIMED_FPS, frame_files, natural_key, open_video

CLIP = np.random.default_rng(0).integers(0, 256, (12, 10, 14, 3), dtype=np.uint8)


@pytest.fixture
def sources(tmp_path):
    """The same clip in every lossless form."""
    folder = tmp_path / "clip"
    folder.mkdir()
    for number, picture in enumerate(CLIP):
        Image.fromarray(picture).save(
            folder / f"frame{number}.png"
        )  # frame10 before frame2, by letters
    (folder / ".hidden.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture")
    np.save(tmp_path / "clip.npy", CLIP)
    return {
        "folder": folder,
        "npy": tmp_path / "clip.npy",
        "array": CLIP,
        "paths": frame_files(folder),
        "images": [Image.fromarray(picture) for picture in CLIP],
        "arrays": list(CLIP),
    }


@pytest.mark.parametrize("form", ["folder", "npy", "array", "paths", "images", "arrays"])
def test_every_form_gives_the_same_frames(sources, form):
    with open_video(sources[form], fps=6) as reader:
        assert (len(reader), reader.size, reader.still) == (12, (10, 14), False)
        assert np.array_equal(reader.frames([11, 2, 2, 10]), CLIP[[11, 2, 2, 10]])
        assert reader.decoded == 3
        assert reader.times([0, 3]) == (0, 0.5) and reader.frame_at(0.51) == 3
        with pytest.raises(MediaError, match="frame 12 is outside"):
            reader.frames([12])
    assert open_video(sources[form]).fps == UNTIMED_FPS


def test_natural_order():
    names = ["f10.jpg", "f9.jpg", "f09.jpg", "10.jpg", "2.jpg", "a.jpg", "f1_2.jpg", "f1_10.jpg"]
    assert sorted(names, key=natural_key) == [
        "2.jpg", "10.jpg", "a.jpg", "f1_2.jpg", "f1_10.jpg", "f09.jpg", "f9.jpg", "f10.jpg",
    ]  # fmt: skip


def test_gif_times_and_composed_frames(tmp_path):
    flat = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue", "white")]
    for index, picture in enumerate(flat):
        picture.putpixel((index, 0), (0, 0, 0))
    flat[0].save(
        tmp_path / "a.gif", save_all=True, append_images=flat[1:], duration=[100, 300, 100, 500]
    )
    with open_video(tmp_path / "a.gif") as reader:
        assert (len(reader), reader.size, reader.fps) == (4, (7, 9), pytest.approx(4.0))
        assert reader.times(range(4)) == pytest.approx((0, 0.1, 0.4, 0.5))
        assert reader.frame_at(0.39) == 1 and reader.frame_at(0.99) == 3
        pictures = reader.frames([3, 1, 0])
        for picture, index in zip(pictures, (3, 1, 0)):
            assert np.array_equal(picture, np.asarray(flat[index]))


def test_a_photograph_is_turned_upright(tmp_path):
    picture = Image.fromarray(CLIP[0])
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was held on its side
    picture.save(tmp_path / "photo.png", exif=exif)
    with open_video(tmp_path / "photo.png") as reader:
        assert reader.still and reader.size == (14, 10)
        assert np.array_equal(reader.frames([0])[0], np.rot90(CLIP[0], -1))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])  # as newer and older Pillow read them
def test_sixteen_bits_of_grey_become_eight(tmp_path, dtype):
    grey = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    with open_video(tmp_path / "deep.png") as reader:
        assert (reader.frames([0])[0] == (grey >> 8)[..., None]).all()
    listed = open_video([Image.fromarray(grey.astype(dtype))]).frames([0])[0]
    assert (listed == (grey >> 8)[..., None]).all()


def test_a_folder_is_called_by_its_name(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    monkeypatch.chdir(tmp_path)
    assert open_video(".").name == tmp_path.name


def test_one_picture_is_a_still():
    reader = open_video(CLIP[0])
    assert reader.still and len(reader) == 1 and reader.frame_at(0) == 0


def test_real_images_and_folders(sama_data):
    expected = json.loads((sama_data / "images" / "expected.json").read_text())
    for name, facts in expected.items():
        with open_video(sama_data / "images" / name) as reader:
            assert reader.size == (facts["height"], facts["width"])
            colours = reader.frames([0]).mean((0, 1, 2))
            assert np.abs(colours - facts["mean_rgb"]).max() < 2
    with open_video(sama_data / "frames/ref_youtube_vos/train/JPEGImages/bedroom01") as reader:
        assert len(reader) == len(
            frame_files(sama_data / "frames/ref_youtube_vos/train/JPEGImages/bedroom01")
        )
        assert reader.frames([len(reader) - 1]).shape == (1, *reader.size, 3)


def test_a_folder_of_mixed_sizes_names_the_frame(tmp_path):
    for number, side in enumerate((8, 8, 9)):
        Image.new("RGB", (side, 8)).save(tmp_path / f"{number}.png")
    with open_video(tmp_path) as reader:
        assert reader.frames([0, 1]).shape == (2, 8, 8, 3)
        with pytest.raises(MediaError, match="frame 2 of .* 9 x 8 pixels, the others 8 x 8"):
            reader.frames([2])


def bad(tmp_path, kind):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.jpg").write_bytes(b"no picture")
    (tmp_path / "text.gif").write_bytes(b"GIF? no")
    (tmp_path / "text.png").write_bytes(b"no picture")
    (tmp_path / "text.npy").write_bytes(b"no array")
    np.save(tmp_path / "flat.npy", np.zeros((3, 4), np.uint8))
    np.save(tmp_path / "none.npy", np.zeros((0, 4, 4, 3), np.uint8))
    whole = tmp_path / "whole.png"
    Image.fromarray(CLIP[0]).save(whole)
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:200])
    return {
        "array of floats": CLIP / 255,
        "array of one channel": CLIP[..., :1],
        "no frames": CLIP[:0],
        "empty list": [],
        "list of text": ["nowhere.png"],
        "list of numbers": [1, 2],
        "nothing": None,
        "a number": 5,
        "empty path": "",
    }.get(kind, tmp_path / kind)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", "has no frames"),
        ("broken", "0.jpg is not a picture"),
        ("text.gif", "not a GIF"),
        ("text.png", "not a picture"),
        ("half.png", "not a picture"),
        ("text.npy", "not a numpy array"),
        ("flat.npy", "no clip"),
        ("none.npy", "the clip is empty"),
        ("missing", "there is no file or folder"),
        ("array of floats", "uint8"),
        ("array of one channel", "no clip"),
        ("no frames", "the clip is empty"),
        ("empty list", "without pictures"),
        ("list of text", "there is no file nowhere.png"),
        ("list of numbers", "is not a picture"),
        ("nothing", "None is no clip"),
        ("a number", "5 is no clip"),
        ("empty path", "'' is no clip"),
    ],
)
def test_sources_that_are_no_clip(tmp_path, kind, words):
    with pytest.raises(MediaError, match=words):
        open_video(bad(tmp_path, kind)).frames([0])


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_impossible_rates(fps):
    with pytest.raises(MediaError, match="frames a second"):
        open_video(CLIP, fps=fps)
