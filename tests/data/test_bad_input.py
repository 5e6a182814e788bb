"""Damaged and hostile annotation: a named error or a record set aside, no crash, no silence."""

from __future__ import annotations

import json
import os
import pickle
import tracemalloc

import numpy as np
import pytest

from sama_plugin.data.check import check_source
from sama_plugin.data.formats import (
    FORMATS,
    coco,
    files,
    mevis,
    read_samples,
    ref_youtube_vos,
    refcoco,
)
from sama_plugin.data.formats.segmentations import read_segmentation
from sama_plugin.data.library import Library
from sama_plugin.data.report import Quarantine
from sama_plugin.data.sources import SourceConfig
from sama_plugin.errors import DataError
from sama_plugin.media import masks
from sama_plugin.media.video import open_video

from .factories import FRAMES, grounded_sample, write_clip
from .seed_folders import load


def reason(call):
    with pytest.raises(DataError) as caught:
        call()
    return caught.value.reason


class Run:
    """A pickle of this runs a command when it is loaded."""

    def __reduce__(self):
        return os.system, ("touch EXECUTED",)


class TestPickles:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_code_is_not_run(self, tmp_path, monkeypatch, protocol):
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "refs(unc).p"
        path.write_bytes(pickle.dumps([{"ref_id": Run()}], protocol))
        assert reason(lambda: files.load(path)) == "bad_pickle"
        assert not (tmp_path / "EXECUTED").exists()

    @pytest.mark.parametrize(
        "value",
        [np.zeros(3), np.float64(1), {1: np.int64(2)}, Run, print],
        ids=["array", "scalar", "nested", "class", "builtin"],
    )
    def test_only_containers(self, tmp_path, value):
        path = tmp_path / "a.pkl"
        path.write_bytes(pickle.dumps(value))
        assert reason(lambda: files.load(path)) == "bad_pickle"

    def test_damaged(self, tmp_path):
        whole = pickle.dumps({"0": [{"size": [4, 4], "counts": "abc"}] * 20}, 2)
        path = tmp_path / "a.pkl"
        for cut in range(0, len(whole), 7):
            path.write_bytes(whole[:cut])
            assert reason(lambda: files.load(path)) == "bad_pickle"

    def test_python_2_text(self, tmp_path):
        path = tmp_path / "a.p"
        path.write_bytes(b"(dp0\nS'sent'\np1\nS'caf\\xe9'\np2\ns.")
        assert files.load(path) == {"sent": "café"}

    @pytest.mark.parametrize("name", ["refcoco", "ref_youtube_vos", "mevis"])
    def test_every_reader_of_pickles_refuses_code(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        hostile = pickle.dumps(Run())
        if name == "refcoco":
            path = tmp_path / "refs(unc).p"
            path.write_bytes(hostile)
            (tmp_path / "instances.json").write_text('{"images": [], "annotations": []}')
        else:
            path = tmp_path / "meta_expressions.json"
            path.write_text('{"videos": {}}')
            (tmp_path / "mask_dict.pkl").write_bytes(hostile)
        module = {"refcoco": refcoco, "ref_youtube_vos": ref_youtube_vos, "mevis": mevis}[name]
        assert reason(lambda: list(module.read(path, tmp_path))) == "bad_pickle"
        assert not (tmp_path / "EXECUTED").exists()


class TestJson:
    @pytest.mark.parametrize(
        "text",
        ['[{"a": 1}', '{"a": NaN}', "[Infinity]", "[-Infinity]", "", "[" * 100_000, '{"a": 1}}'],
        ids=["cut", "nan", "infinity", "minus", "empty", "deep", "tail"],
    )
    def test_refused_by_name(self, tmp_path, text):
        path = tmp_path / "a.json"
        path.write_text(text)
        assert reason(lambda: files.load_json(path)) == "bad_json"

    def test_a_byte_order_mark_is_read(self, tmp_path):
        path = tmp_path / "a.json"
        path.write_bytes(b"\xef\xbb\xbf[1]")
        assert files.load_json(path) == [1]

    @pytest.mark.parametrize(
        "text", ['{"1": [], "1": [2]}', '{"videos": {"a": {"exp": {"0": "x", "0": "y"}}}}']
    )
    def test_a_name_that_occurs_twice_is_refused(self, tmp_path, text):
        path = tmp_path / "a.json"
        path.write_text(text)
        with pytest.raises(DataError, match="a.json.*occurs twice") as caught:
            files.load_json(path)
        assert caught.value.reason == "duplicate_id"

    def test_not_text(self, tmp_path):
        path = tmp_path / "a.json"
        path.write_bytes(b'["\xff\xfe"]')
        assert reason(lambda: files.load_json(path)) == "bad_json"

    @pytest.mark.parametrize("name", sorted(FORMATS.names()))
    @pytest.mark.parametrize("text", ["[1, 2]", "{}", "7", '{"videos": 3}', "[{}]", "[[]]"])
    def test_every_format_survives_another_shape(self, tmp_path, name, text):
        path = tmp_path / ("a.jsonl" if name in ("sama", "swift_objects") else "a.json")
        path.write_text(text)
        report = Quarantine()
        try:
            assert list(read_samples(name, path, tmp_path, report)) == []
        except DataError:
            return  # the whole file is refused by name

    def test_duplicate_ids(self, tmp_path):
        image = {"id": 1, "file_name": "a.png", "height": 4, "width": 4}
        tables = {"images": [image, image], "annotations": [], "categories": []}
        path = tmp_path / "c.json"
        path.write_text(json.dumps(tables))
        assert reason(lambda: list(coco.read(path, tmp_path))) == "duplicate_id"


class TestSegmentations:
    @pytest.mark.parametrize(
        "entry, size, wanted",
        [
            ({"size": [10**9, 10**9], "counts": "0"}, None, "bad_segmentation"),
            ({"size": [10**9, 10**9], "counts": [10**18]}, (4, 4), "bad_segmentation"),
            ({"size": [16384, 16384], "counts": [2**28]}, (24, 32), "size_mismatch"),
            ({"size": [4, 4], "counts": [99]}, (4, 4), "bad_segmentation"),
            ({"size": [4, 4], "counts": [-1, 17]}, (4, 4), "bad_segmentation"),
            ({"size": [4, 4], "counts": "~~~~"}, (4, 4), "bad_segmentation"),
            ({"size": [4.5, 4], "counts": [16]}, None, "bad_segmentation"),
            ({"size": [True, 4], "counts": [4]}, None, "bad_segmentation"),
            ({"size": [4, 4], "counts": [8, float("nan")]}, (4, 4), "bad_segmentation"),
            ([[0, 0, 1e300, 0, 3, 3]], (4, 4), "bad_segmentation"),
            ([[0, 0, float("inf"), 0, 3, 3]], (4, 4), "bad_segmentation"),
            ([[0, 0, "x", 0, 3, 3]], (4, 4), "bad_segmentation"),
            ([[0, 0, 3]], (4, 4), "bad_segmentation"),
            ("abc", (4, 4), "bad_segmentation"),
            (7, (4, 4), "bad_segmentation"),
        ],
    )
    def test_bombs_and_nonsense(self, entry, size, wanted):
        assert reason(lambda: read_segmentation(entry, size)) == wanted


def test_many_masks_are_united_two_at_a_time():
    large = {"size": [1000, 1000], "counts": [0, 10**6]}
    tracemalloc.start()
    try:
        assert masks.area(masks.merge([large] * 50)) == 10**6
        assert tracemalloc.get_traced_memory()[1] < 10 * 10**6
    finally:
        tracemalloc.stop()


class TestPaths:
    @pytest.mark.parametrize("name", ["../a.npy", "x/../../a.npy", "./../root2/a.npy"])
    def test_climbing_out(self, tmp_path, name):
        root = tmp_path / "root"
        root.mkdir()
        write_clip(tmp_path / "a.npy")
        assert reason(lambda: Library(root).find(name)) == "path_outside_root"

    def test_loops_of_links(self, tmp_path):
        (tmp_path / "a").symlink_to(tmp_path / "b")
        (tmp_path / "b").symlink_to(tmp_path / "a")
        (tmp_path / "round").symlink_to(tmp_path)
        assert reason(lambda: Library(tmp_path).find("a")) == "missing_media"
        assert reason(lambda: Library(tmp_path).find("/".join(["round"] * 60 + ["c"]))) == (
            "missing_media"
        )

    @pytest.mark.parametrize("name", ["a\0b.npy", "x" * 5000, "", None, 3, ["a"]])
    def test_names_that_are_none(self, tmp_path, name):
        assert reason(lambda: Library(tmp_path).find(name)) in ("missing_media", "missing_field")


class TestClips:
    def check(self, tmp_path, source):
        sample = grounded_sample(str(source))
        path = tmp_path / "d.jsonl"
        path.write_text(json.dumps(sample.to_json()) + "\n")
        return check_source(SourceConfig("sama", str(path), root=str(tmp_path)))

    def test_whole(self, tmp_path):
        report = self.check(tmp_path, write_clip(tmp_path / "a.npy"))
        assert report.counts["samples"] == 1 and not report.dropped

    @pytest.mark.parametrize(
        "change, wanted",
        [
            ({"media": {"kind": "video", "source": "a.npy", "frame_stride": 0}}, "bad_field"),
            ({"media": {"kind": "film", "source": "a.npy"}}, "bad_field"),
            ({"turns": [{"user": "half \ud83d a smile"}]}, "bad_encoding"),
            ({"turns": [{"user": "<region>", "regions": [{"prompts": [{}]}]}]}, "bad_region"),
        ],
        ids=["stride", "kind", "half", "prompt"],
    )
    def test_fields_that_no_worker_could_use(self, tmp_path, change, wanted):
        write_clip(tmp_path / "a.npy")
        path = tmp_path / "d.jsonl"
        record = grounded_sample("a.npy").to_json()
        path.write_text(json.dumps({**record, **change}) + "\n")
        report = check_source(SourceConfig("sama", str(path)))
        assert [error.reason for error in report.dropped] == [wanted]

    def test_what_the_clip_shows_names_its_file_too(self, tmp_path):
        write_clip(tmp_path / "a.npy", FRAMES - 4)
        path = tmp_path / "d.jsonl"
        path.write_text(json.dumps(grounded_sample("a.npy").to_json()) + "\n")
        (error,) = check_source(SourceConfig("sama", str(path))).dropped
        assert (error.file, error.record) == (str(path), "grounded")

    @pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
    def test_cut_files(self, tmp_path, keep):
        path = tmp_path / "a.npy"
        write_clip(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * keep)])
        report = self.check(tmp_path, path)
        assert [error.reason for error in report.dropped] == ["unreadable_media"]

    def test_a_shorter_clip_than_the_annotation_says(self, tmp_path):
        report = self.check(tmp_path, write_clip(tmp_path / "a.npy", FRAMES - 4))
        assert len(report.dropped) == 1 and not report.counts["samples"]

    def test_a_cut_video_is_a_named_error(self, tmp_path, sama_data):
        (source, *_) = sorted((sama_data / "videos").glob("*.mp4"))
        whole = source.read_bytes()
        for keep in (0.2, 0.6, 0.95):
            path = tmp_path / "a.mp4"
            path.write_bytes(whole[: int(len(whole) * keep)])
            report = self.check(tmp_path, path)
            assert [error.reason for error in report.dropped] in (
                ["unreadable_media"],
                ["bad_region"],
            )
            assert open_video(source).size  # the whole one opens


@pytest.mark.parametrize("repeat", [-1, "x", None])
def test_repeats_that_are_no_number_are_named(tmp_path, repeat):
    path = tmp_path / "meta.json"
    entry = {"root": ".", "annotation": "a.jsonl", "repeat_time": repeat}
    path.write_text(json.dumps({"chat": entry}))
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(DataError, match="chat.*repeat_time"):
        list(read_samples("internvl_meta", path, tmp_path, Quarantine()))


def test_records_of_one_id_are_noted(tmp_path):
    write_clip(tmp_path / "a.npy")
    said = [{"from": "human", "value": "<video>\nwhat?"}, {"from": "gpt", "value": "this"}]
    record = {"id": "same", "video": "a.npy", "conversations": said}
    path = tmp_path / "chat.json"
    path.write_text(json.dumps([record, record]))
    report = check_source(SourceConfig("llava", str(path)))
    assert [error.reason for error in report.noted] == ["duplicate_id"]
    assert report.counts["samples"] == 2 and report.exit_code == 0


def places(content, most=20):
    """Paths to fields of a JSON value, spread over it."""
    found = []

    def walk(value, path):
        items = value.items() if isinstance(value, dict) else enumerate(value[:3])
        for key, inner in items:
            found.append((*path, key))
            if isinstance(inner, (dict, list)):
                walk(inner, (*path, key))

    walk(content, ())
    return found[:: max(1, len(found) // most)]


def replaced(content, path, value):
    """A copy with one field changed."""
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[path[0]] = replaced(content[path[0]], path[1:], value) if path[1:] else value
    return copy


@pytest.mark.parametrize(
    "name, file",
    [
        ("gcg", "GranDf_HA_GCG_train.json"),
        ("gcg", "flickr_mergedGT_GCG_train.json"),
        ("osprey", "osprey_conversation.json"),
        ("refcoco", "refs(*).json"),
        ("sa2va_finetune", "annotations.json"),
        ("sama_239k", "sama239k_train_final.json"),
        ("sama_bench", "mevis.json"),
        ("videorefer_700k", "videorefer-qa-75k.json"),
        ("videorefer_vl3", "*.json"),
        ("videorefer_bench", "VideoRefer-Bench-D.json"),
        ("vidstg", "train_annotations.json"),
        ("lvvis", "train_instances.json"),
    ],
)
def test_a_field_of_another_kind_is_set_aside(sama_data, tmp_path, name, file):
    seed = load(sama_data / "seeds" / name, sama_data)
    source = seed.file(file)
    for other in seed.folder.iterdir():
        if other != source:
            (tmp_path / other.name).symlink_to(other)
    content = json.loads(source.read_text("utf-8-sig"))
    content = content[:1] if isinstance(content, list) else content
    for number, path in enumerate(places(content)):
        wrong = ("x", 7, None, [], {}, -1.5, [[]])[number % 7]
        changed = tmp_path / source.name
        changed.write_text(json.dumps(replaced(content, path, wrong)))
        try:
            list(read_samples(name, changed, seed.root, Quarantine(), probe=False))
        except DataError:
            continue  # a field of the whole file
