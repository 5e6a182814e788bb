"""Every real video, image and frame folder holds a conversation; masks have the source's size.

The random host understands nothing; which frames are decoded, shapes and files must be right.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sama_plugin.infer.folder import write_conversation
from sama_plugin.infer.session import VideoSession
from sama_plugin.media.frames import FramePolicy
from sama_plugin.media.masks import read_png
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.media.video import open_video

FEW = FramePolicy(aggregator=3, llm=2, prompted=1)
FOLDERS = {
    "mevis/train/JPEGImages/cups_shuffle": 24,
    "ref_youtube_vos/train/JPEGImages/bedroom01": 40,
    "lvvis/train/JPEGImages/00042": 12,
    "lvvis/val/JPEGImages/00042": 8,
    "VidSTG/vidstg_videos_frames/8801": 16,
    "sav_train/sav_000/sav_900001.mp4": 60,
}
"""Clips below frames/ and their lengths."""


def sources(sama_data):
    """(path, frames, (height, width) where it is stated) of every clip and picture."""
    videos = json.loads((sama_data / "videos/expected.json").read_text())["videos"]
    images = json.loads((sama_data / "images/expected.json").read_text())
    for name, facts in videos.items():
        yield sama_data / "videos" / name, facts["frames"], (facts["height"], facts["width"])
    for name, facts in images.items():
        yield sama_data / "images" / name, 1, (facts["height"], facts["width"])
    for name, frames in FOLDERS.items():
        yield sama_data / "frames" / name, frames, None


def test_no_real_file_is_left_out(sama_data):
    listed = {path for path, _, _ in sources(sama_data)}
    media = {".mp4", ".jpg", ".mov", ".gif"}
    for path in (file for file in sama_data.rglob("*") if file.suffix in media):
        assert path in listed or path.parent in listed, f"{path} is in no test"


def test_every_source_answers_and_only_planned_frames_are_decoded(sama, sama_data):
    for path, frames, size in sources(sama_data):
        with VideoSession(sama, path, frames=FEW) as session:
            answer = session.ask("what happens here?", masks=False)
            rows = session.plan.rows
            assert session.plan.total == frames, path
            assert size in (None, session.reader.size), path
            assert session.reader.still == (frames == 1), path
            assert session.reader.decoded == len(rows) == min(3, frames), path
            assert session.encodes == (len(rows), 0), path
            assert answer.text and len(answer.phrases) == 2 and answer.finished, path
            tokens = session.turns[0].prompt_ids.count(sama.image_id)
            assert tokens == len(session.plan.llm) * sama.modules.tokens, path


@pytest.fixture
def sure(sama):
    """The segmenter and our copy of its decoder take everything for present."""
    decoders = (sama.modules.mask_decoder, sama.segmenter.module.sam_mask_decoder)
    biases = [decoder.pred_obj_score_head.layers[-1].bias for decoder in decoders]
    before = [bias.detach().clone() for bias in biases]
    with torch.no_grad():
        for bias in biases:
            bias += 10
        yield
        for bias, value in zip(biases, before):
            bias.copy_(value)


CLIPS = [
    pytest.param("frames/mevis/train/JPEGImages/cups_shuffle", "cups_shuffle/red_cups", id="cups"),
    pytest.param("frames/sav_train/sav_000/sav_900001.mp4", None, id="mp4"),
]


@pytest.mark.parametrize(("clip", "masks"), CLIPS)
def test_masks_page_and_overlay_of_a_clip(sama, sure, sama_data, tmp_path, clip, masks):
    with VideoSession(sama, sama_data / clip, frames=FEW) as session:
        height, width = session.reader.size
        box = (width // 4, height // 4, width // 2, height // 2)
        mask = None if masks is None else read_png(sama_data / "masks_png" / masks / "00000.png")
        prompt = {"box": box} if mask is None else {"mask": mask > 0}
        session.region("thing", frame=0, **prompt)
        answer = session.ask("what does @thing do?")
        tracks = [phrase.track for phrase in answer.phrases]
        page = write_conversation(session, tmp_path / "out")
        source = session.reader.frames(range(len(session.reader)))
        assert session.encodes[1] == len(source)
    for track in tracks:
        assert (track.size, track.total) == ((height, width), len(source))
        assert track.frames() == tuple(range(len(source)))
    assert len(page.read_text()) > 2000
    stored = json.loads((page.parent / "masks/1.1.json").read_text())["track"]
    assert MaskTrack.from_json(stored) == tracks[0]
    check_overlay(page.parent / "turn-1.mp4", source, tracks)


def check_overlay(path, source, tracks) -> None:
    """Every frame is there; outside masks it shows the source, under a mask it is tinted."""
    with open_video(path) as drawn:
        assert len(drawn) == len(source)
        scale = max(1, round(drawn.size[0] / source.shape[1]))
        frames = drawn.frames(range(len(source)))[:, ::scale, ::scale]
    height, width = source.shape[1:3]
    change = np.abs(frames[:, :height, :width].astype(int) - source).mean(-1)  # (T, H, W)
    found = np.logical_or.reduce([track.tube(range(track.total)) for track in tracks])
    share = found.mean((1, 2))
    telling = np.flatnonzero((share > 0.05) & (share < 0.95))[:8]
    assert len(telling)
    for frame in telling:
        inside, outside = change[frame][found[frame]], change[frame][~found[frame]]
        assert np.median(inside) > 2 * np.median(outside), f"frame {frame}"


@pytest.mark.parametrize("thing", ["red_cups", "yellow_ball", "orange_top"])
def test_a_thing_is_pointed_at_by_all_its_real_masks(sama, sama_data, thing):
    folder = sama_data / "frames/mevis/train/JPEGImages/cups_shuffle"
    files = sorted((sama_data / "masks_png/cups_shuffle" / thing).glob("*.png"))
    masks = {int(path.stem): read_png(path) > 0 for path in files}
    seen = [frame for frame, mask in masks.items() if mask.any()]
    prompts = [RegionPrompt.from_mask(frame, masks[frame]) for frame in seen]
    with VideoSession(sama, folder, frames=FEW) as session:
        session.region("thing", prompts=prompts)
        session.ask("what is @thing ?", masks=False)
        assert session.turns[0].plan.rows == tuple(sorted({*session.plan.rows, *seen}))
        assert session.encodes[0] == len(session.turns[0].plan.rows)
