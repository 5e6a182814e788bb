"""`check_source` finds what is wrong, names it, and opens every file once."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sama_plugin.data import check, library
from sama_plugin.data.check import check_source
from sama_plugin.data.formats import sama
from sama_plugin.data.sources import SourceConfig
from sama_plugin.errors import MediaError
from sama_plugin.media.prompts import RegionPrompt
from tests.data.factories import (
    Region,
    grounded_sample,
    plain_sample,
    text_sample,
    write_clip,
)

SAID = (("human", "What is there?"), ("gpt", "A dog."))
CONVERSATION = {"conversations": [{"from": who, "value": words} for who, words in SAID]}


def dataset(folder, *samples):
    sama.write(samples, folder / "data.jsonl", folder)
    return SourceConfig("sama", str(folder / "data.jsonl"))


def test_a_good_dataset(tmp_path):
    clip = write_clip(tmp_path / "clip.npy")
    config = dataset(tmp_path, grounded_sample(clip), plain_sample(clip), text_sample())
    report = check_source(config)
    assert report.exit_code == 0
    assert report.counts == {"samples": 3, "turns": 5, "regions": 1, "targets": 3, "media": 1}
    json.dumps(report.to_json())


def test_every_problem_is_named_and_the_rest_is_kept(tmp_path):
    clip = write_clip(tmp_path / "clip.npy")
    (tmp_path / "text.mp4").write_text("not a video")
    np.save(tmp_path / "short.npy", np.load(clip)[:2])
    outside = Region((RegionPrompt.from_box(1, (0, 0, 900, 4)),))
    config = dataset(
        tmp_path,
        grounded_sample(clip, "good"),
        grounded_sample(clip, "outside", region=outside),
        plain_sample(str(tmp_path / "text.mp4"), "text"),
        plain_sample(str(tmp_path / "text.mp4"), "again"),
        grounded_sample(str(tmp_path / "short.npy"), "short"),
        plain_sample(str(tmp_path / "gone.npy"), "gone"),
    )
    report = check_source(config)
    assert report.exit_code == 1 and report.counts["samples"] == 1
    assert {error.record: error.reason for error in report.dropped} == {
        "gone": "missing_media",
        "outside": "bad_region",
        "text": "unreadable_media",
        "again": "unreadable_media",
        "short": "bad_region",
    }
    text = "\n".join(report.lines())
    assert "lost: 5" in text and "leaves the frame" in text and "data.jsonl" in text


def test_files_are_opened_once_and_decoded_at_both_ends(tmp_path, monkeypatch):
    opened, decoded = [], []
    real = check.open_video

    def watched(path):
        reader = real(path)
        opened.append(path)
        frames = reader.frames
        reader.frames = lambda indices: decoded.append(list(indices)) or frames(indices)
        return reader

    clip = write_clip(tmp_path / "clip.npy")
    samples = [plain_sample(clip, f"p{i}") for i in range(5)]
    config = dataset(tmp_path, *samples)
    monkeypatch.setattr(check, "open_video", watched)
    assert check_source(config).exit_code == 0
    assert opened == [clip] and len(decoded) == 1 and len(decoded[0]) == 2
    assert check_source(config, decode=False).exit_code == 0
    assert len(decoded) == 1


def test_a_file_that_cannot_be_read_is_tried_once(tmp_path, monkeypatch):
    """Also by formats that open videos while they parse."""
    tried = []

    def broken(path):
        tried.append(path)
        raise MediaError(f"{path} is damaged")

    (tmp_path / "clip.mp4").write_text("not a video")
    records = [{"id": n, "video": "clip.mp4", **CONVERSATION} for n in range(4)]
    (tmp_path / "qa.json").write_text(json.dumps(records))
    own = dataset(tmp_path, *(plain_sample(str(tmp_path / "clip.mp4"), f"p{n}") for n in range(4)))
    for module in (check, library):
        monkeypatch.setattr(module, "open_video", broken)
    theirs = SourceConfig("videorefer_700k", str(tmp_path / "qa.json"))
    for config in (own, theirs):
        tried.clear()
        report = check_source(config)
        assert [error.reason for error in report.dropped] == ["unreadable_media"] * 4
        assert len(tried) == 1 and all("is damaged" in str(error) for error in report.dropped)


@pytest.mark.parametrize("content", ["", "{"])
def test_nothing_usable(tmp_path, content):
    (tmp_path / "data.jsonl").write_text(content)
    config = SourceConfig("sama", str(tmp_path / "data.jsonl"))
    assert check_source(config).exit_code == 2


def test_a_missing_annotation_file_is_a_problem_not_a_crash(tmp_path):
    report = check_source(SourceConfig("videorefer_700k", str(tmp_path / "none.json")))
    assert report.exit_code == 2 and report.dropped[0].reason == "missing_file"


def test_the_malformed_seeds_are_found(sama_data):
    folder = sama_data / "seeds" / "videorefer_700k"
    expected = json.loads((folder / "expected.json").read_text())
    config = SourceConfig("videorefer_700k", str(folder / "malformed.json"), root=str(sama_data))
    report = check_source(config, decode=False)
    rejected = {r["id"] for r in expected["malformed"] if r["verdict"] == "reject"}
    assert {error.record for error in report.dropped} == rejected
    assert report.exit_code == 1
