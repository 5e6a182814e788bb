"""Sessions on real files: a random host understands nothing, shapes, times and files are right."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sama_plugin.infer.folder import write_conversation
from sama_plugin.infer.record import resume_session
from sama_plugin.infer.session import VideoSession
from sama_plugin.media.masks import read_png
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.video import open_video


def test_a_region_from_real_masks_on_several_frames(sama, sama_data, tmp_path):
    folder = sama_data / "frames" / "ref_youtube_vos" / "train" / "JPEGImages" / "bedroom01"
    masks = sorted((sama_data / "masks_png" / "bedroom01" / "blue_skirt").glob("*.png"))
    frames = sorted(folder.glob("*.jpg"))
    names = [path.stem for path in frames]
    prompts = [
        RegionPrompt.from_mask(names.index(path.stem), read_png(path) > 0)
        for path in masks[:3]
        if read_png(path).any()
    ]
    with VideoSession(sama, folder) as session:
        session.region("girl", prompts=prompts)
        answer = session.ask("what does @girl do?", max_new_tokens=16)
        page = write_conversation(session, tmp_path / "out")
        again = resume_session(sama, page.parent / "conversation.json")
        assert again.regions == session.regions
        assert [one.phrases for one in again.answers] == [one.phrases for one in session.answers]
    height, width = open_video(folder).size
    assert len(prompts) > 1 and len(answer.phrases) == 2
    for phrase in answer.phrases:
        assert phrase.track.tube([0, len(frames) - 1]).shape == (2, height, width)
    assert session.encodes[1] == len(frames)


def test_an_mp4_by_seconds(sama, sama_data):
    expected = json.loads((sama_data / "videos" / "expected.json").read_text())["videos"]
    with VideoSession(sama, sama_data / "videos" / "02_cups.mp4") as session:
        about = expected["02_cups.mp4"]
        assert len(session.reader) == about["frames"]
        assert session.reader.size == (about["height"], about["width"])
        region = session.region("cup", time=5.005, points=[(640, 360)])
        assert region.frames == (150,)
        answer = session.ask("what is @cup ?", masks=False, max_new_tokens=4)
        assert answer.plan.extra == (150,)
        rows = {frame: row for row, frame in enumerate(session.plan.rows)}
        assert session.reader.decoded <= len(rows) + 1, "only planned frames are decoded"


@pytest.mark.parametrize("name", ["images/truck.jpg", "images/groceries.jpg"])
def test_a_still_image(sama, sama_data, name, tmp_path):
    with VideoSession(sama, sama_data / name) as session:
        height, width = session.reader.size
        session.region("left", frame=0, box=(0, 0, width / 2, height))
        answer = session.ask("what is @left ?", max_new_tokens=16)
        write_conversation(session, tmp_path)
    assert np.shape(answer.phrases[0].track.mask(0)) == (height, width)
    assert not list(tmp_path.glob("*.mp4")) and (tmp_path / "turn-1.jpg").is_file()
