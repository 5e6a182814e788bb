"""A lost video costs all its questions: every one is counted, and the cause is said once."""

from __future__ import annotations

import json

import pytest

from sama_plugin.data.formats import read_samples
from sama_plugin.data.report import Quarantine
from sama_plugin.errors import DataError
from sama_plugin.eval import harness, report
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.losses import Loss, cases_failed, listing, records_not_read
from tests.eval.test_harness import choice, material, run

EXPRESSIONS = {str(n): {"exp": f"thing {n}"} for n in range(3)}
TALK = [{"from": who, "value": "."} for _ in range(3) for who in ("human", "gpt")]
RECORD = {"video": "mevis/lost", "video_id": "v", "conversation": TALK}
LISTS = {"obj_masks": [[]] * 3, "groundtruth": [[]] * 3}
SAV = {"objects": {"0": {"formated": "one", "short_caps": ["two", "three"]}}}
VIDEO = {"expressions": EXPRESSIONS, "frames": ["00000"]}
REF = {"ref_id": 1, "image_id": 1, "ann_id": 1, "split": "train", "sentences": [{"sent": "it"}] * 3}
CAPTIONS = {"captions": [{"description": "it"}], "questions": [{"description": "what"}] * 2}

LOST = {
    "mevis": {"videos": {"lost": VIDEO}},
    "ref_youtube_vos": {"videos": {"lost": VIDEO}},
    "reasonvos": {"videos": {"lost": {**VIDEO, "source": "x"}}},
    "ref_sav": {"lost": {"video_path": "lost.mp4", "anno_path": "lost.json", **SAV}},
    "refcoco": [REF],
    "vidstg": [{"vid": "lost", **CAPTIONS}],
    "sama_239k": [{**RECORD, **LISTS}],
    "sama_bench": [{**RECORD, **LISTS}],
}
"""A file of each format with one record of three questions, whose video does not exist."""

BESIDE = {
    "instances.json": {"images": [{"id": 1, "file_name": "lost.jpg"}], "annotations": []},
    "vidstg_frames.json": {},
    "VidSTG_mask_dict.json": {},
}


@pytest.fixture
def lost(tmp_path):
    def write(name):
        for file, content in {**BESIDE, "data.json": LOST[name]}.items():
            (tmp_path / file).write_text(json.dumps(content))
        return tmp_path / "data.json"

    return write


@pytest.mark.parametrize("name", LOST)
def test_a_lost_video_is_one_error_and_all_its_questions(lost, name):
    found = Quarantine()
    path = lost(name)
    assert not list(read_samples(name, path, path.parent, found))
    assert [error.questions for error in found.dropped] == [3] and found.lost == 3
    with pytest.raises(DataError, match="more than 2 bad records or turns .*: 3"):
        list(read_samples(name, path, path.parent, Quarantine(budget=2)))
    list(read_samples(name, path, path.parent, Quarantine(budget=3)))


def test_turns_dropped_before_their_record_are_not_counted_twice():
    from sama_plugin.data.report import RecordReport

    found = Quarantine()
    local = RecordReport(found, "file", "record", questions=3)
    local.drop(DataError("bad"), "conversation[0]")
    local.drop(DataError("lost"))
    assert [error.questions for error in found.dropped] == [1, 2]


def test_a_benchmark_file_counts_the_questions_of_lost_videos(tmp_path):
    """SAMA-Bench-style: one record a video. VideoRefer-style: one record a question."""
    (tmp_path / "seen").mkdir()
    from PIL import Image

    Image.new("RGB", (16, 12)).save(tmp_path / "seen" / "00000.jpg")
    file = tmp_path / "meta_expressions.json"
    file.write_text(json.dumps({"videos": {"gone": VIDEO, "seen": VIDEO, "away": VIDEO}}))
    found = harness.read_material("mevis", file, tmp_path).summary()
    assert (found["cases"], found["videos"]) == (3, 1)
    assert found["questions_not_read"]["count"] == 6 and found["questions_not_read"]["causes"] == 2
    said = found["questions_not_read"]["first"]
    assert [line.endswith("(3 questions)") for line in said] == [True, True]
    assert "record gone" in said[0] and "does not exist" in said[0] and "record away" in said[1]


def test_the_same_video_lost_by_several_records_is_said_once():
    errors = [
        DataError("no such file", file="q.json", record=n, found=video, reason="missing_media")
        for n, video in enumerate(["a.mp4", "b.mp4", "b.mp4", "b.mp4"])
    ]
    found = listing(records_not_read(errors))
    assert found == {
        "count": 4,
        "causes": 2,
        "first": [
            "q.json: no such file; found 'b.mp4' (3 questions: record 1, record 2, record 3)",
            "q.json: record 0: no such file; found 'a.mp4'",
        ],
    }


def test_an_unreadable_video_fails_all_its_cases_and_is_named_once(tmp_path):
    found = material([choice(str(n), f"clip{n % 2}") for n in range(14)])

    def fails(cases):
        for case in cases:
            broken = case.video == "clip1"
            yield Prediction(case.key, error="MediaError: damaged" if broken else "", plain="B")

    summary = run(tmp_path, fails, found=found)
    assert summary["counts"]["cases failed, scored as empty answers"] == 7
    assert summary["failures"] == {
        "count": 7,
        "causes": 1,
        "first": ["clip1: MediaError: damaged (7 questions: 1, 3, 5, 7, 9, and 2 more)"],
    }
    assert {row["n"] for row in summary["metrics"]} == {14}, "they stay in the denominator"
    said = report.text(summary)
    assert said.count("clip1") == 1 and "7 cases failed, scored as empty answers" in said


def test_reasons_of_one_video_are_told_apart_and_its_name_is_not_repeated():
    cases = material([choice(str(n), "clip") for n in range(3)]).cases
    failed = {
        "0": "SlotError: too long",
        "1": "MediaError: clip is cut",
        "2": "SlotError: too long",
    }
    assert cases_failed(cases, failed) == [
        Loss("clip: SlotError: too long", ("0", "2"), 2),
        Loss("MediaError: clip is cut", ("1",), 1),
    ]
    assert not cases_failed(cases, {})
