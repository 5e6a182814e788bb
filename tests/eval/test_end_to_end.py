"""Every benchmark with a data file, from the file to the summary, with a real (untrained) model."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sama_plugin.data.formats import sama
from sama_plugin.eval import harness
from sama_plugin.eval.asking import Prediction, answer_cases
from sama_plugin.eval.benchmarks import SUITES, Means
from sama_plugin.eval.judge import NoJudge
from sama_plugin.eval.page import write_page
from sama_plugin.eval.phrases import word_overlap
from sama_plugin.media.masks import encode, write_png
from sama_plugin.miniworld.scene import VIDEOS
from sama_plugin.miniworld.write import write_world
from sama_plugin.model.attach import attach
from tests.model.conftest import tiny_config

FILES = {
    "sama-bench-g": "sama_bench.json",
    "sama-bench-c": "sama_bench.json",
    "videorefer-bench-d": "videorefer_bench_d.json",
    "videorefer-bench-q": "videorefer_bench_q.json",
}


@pytest.fixture(scope="module")
def tiny_sama():
    from sama_plugin.miniworld.host import tiny_host

    return attach(*tiny_host(seed=0), tiny_config())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, "heldout", 1)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_from_file_to_summary(name, world, tiny_sama, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")  # caption metrics have tests of their own
    material = harness.read_material(name, world / FILES[name], world, limit=2)
    assert material.cases and not material.bad and not material.doubled
    masks = SUITES.get(name).MASKS

    def answer(cases):
        yield from answer_cases(tiny_sama, cases, masks=masks, max_new_tokens=4)

    predictions = harness.predict(material, answer, tmp_path, {})
    assert not any(one.error for one in predictions.values())
    for one in predictions.values():
        assert Prediction.from_json(json.loads(json.dumps(one.to_json()))) == one
    means = Means(NoJudge(), word_overlap, "words")
    summary = harness.score(name, material, predictions, means, tmp_path, {})
    assert summary["material"]["cases"] == len(predictions)
    assert summary["metrics"] or summary["not_computed"]


SEEDS = {
    "mevis": ("mevis/valid/meta_expressions.json", "frames/mevis/train/JPEGImages"),
    "ref-sav": ("ref_sav/ref_sav_train.json", "frames"),
    "refcoco": ("refcoco/refs(unc).json", "images"),
    "grefcoco": ("refcoco/refs(unc).json", "images"),
    "gcg": ("gcg/GranDf_HA_GCG_train.json", "images"),
    "hc-stvg": ("videorefer_bench/VideoRefer-Bench-D.json", ""),
}


@pytest.mark.parametrize("name", SEEDS)
def test_real_clips_and_pictures(name, sama_data, tiny_sama, tmp_path, monkeypatch):
    """One case of each: real media through the session, the scoreboard and the page."""
    monkeypatch.setenv("PATH", "")
    file, root = SEEDS[name]
    run_and_show(name, sama_data / "seeds" / file, sama_data / root, tiny_sama, tmp_path)


def run_and_show(name, data, root, tiny_sama, out):
    material = harness.read_material(name, data, root, limit=1)

    def answer(cases):
        yield from answer_cases(tiny_sama, cases, masks=SUITES.get(name).MASKS, max_new_tokens=3)

    predictions = harness.predict(material, answer, out, {})
    assert not any(one.error for one in predictions.values())
    means = Means(NoJudge(), word_overlap, "words")
    summary = harness.score(name, material, predictions, means, out, {})
    assert summary["metrics"] or summary["not_computed"]
    page = write_page(summary, material, predictions, out).read_text()
    (key,) = predictions
    assert escape(key) in page and "cases/" in page


class Made:
    """Files of the suites that have no seed, from clips of the mini world; (file, root) each."""

    def __init__(self, world, folder):
        self.world, self.folder = world, folder
        self.cases = harness.read_material("sama-bench-g", world / "sama_bench.json", world).cases
        self.track = next(t.track for c in self.cases for t in c.sample.turns[-1].targets)
        self.video = Path(self.cases[0].video)

    def write(self, name, content):
        (self.folder / name).write_text(json.dumps(content))
        return self.folder / name

    def ref_davis17(self):
        return self.world / "meta_expressions.json", self.world / VIDEOS

    ref_youtube_vos = ref_davis17

    def expressions(self, **expression):
        """One expression about one thing of a clip, in the layout of MeViS."""
        stems = [f"{number:05d}" for number in range(self.track.total)]
        height, width = self.track.size
        entry = {"exp": "the thing", "exp_text": "the thing", "obj_id": [1], **expression}
        size = {"height": height, "width": width}
        video = {"frames": stems, "expressions": {"0": entry}, **size}
        masks = [self.track.rles.get(number) for number in range(self.track.total)]
        self.write("mask_dict.json", {"9": masks})
        self.write("mask_dict_foreground.json", {self.video.stem: {"masks_rle": masks}})
        videos = {"videos": {self.video.stem: video}}
        return self.write("meta_expressions.json", videos), self.video.parent

    def revos(self):
        return self.expressions(anno_id=[9], type_id=1)

    def reasonvos(self):
        folder = self.folder / "Annotations" / f"mini_{self.video.stem}_1"
        for number in range(self.track.total):
            write_png(folder / f"{number:05d}.png", self.track.mask(number).astype("uint8"))
        file, root = self.expressions(obj_id=1)
        content = json.loads(file.read_text())
        content["videos"][self.video.stem]["source"] = "mini"
        link = self.folder / "JPEGImages"
        link.symlink_to(root)
        return self.write(file.name, content), link

    def gcg_video(self):
        file = self.folder / "gcg.jsonl"
        sama.write([self.cases[0].sample], file, self.world)
        return file, self.world

    def picture(self):
        """(record of a picture, its region)."""
        mask = np.zeros((40, 60), bool)
        mask[5:20, 10:30] = True
        Image.new("RGB", (60, 40)).save(self.folder / "a.jpg")
        region = {"id": 7, "image_id": 1, "segmentation": encode(mask)}
        return {"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}, region

    def refcocog_captions(self):
        image, region = self.picture()
        tables = {"images": [{**image, "caption": "a thing"}], "annotations": [region]}
        return self.write("val.json", tables), self.folder

    def region_categories(self):
        image, region = self.picture()
        record = {**image, "categories": ["a thing"], "annotations": [region]}
        return self.write("lvis.json", [record]), self.folder


MADE = sorted(set(SUITES.names()) - {*FILES, *SEEDS})


@pytest.mark.parametrize("name", MADE)
def test_every_other_suite(name, world, tiny_sama, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    made = getattr(Made(world, tmp_path), name.replace("-", "_"))
    run_and_show(name, *made(), tiny_sama, tmp_path / "out")


def test_a_perfect_answer_scores_one(world, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    material = harness.read_material("sama-bench-g", world / FILES["sama-bench-g"], world)

    def answer(cases):
        for case in cases:
            turn = case.sample.turns[-1]
            tracks = tuple(target.track for target in turn.targets)
            phrases = tuple(target.phrase for target in turn.targets)
            yield Prediction(case.key, turn.assistant, "", phrases, tracks)

    predictions = harness.predict(material, answer, tmp_path, {})
    means = Means(NoJudge(), word_overlap, "words")
    summary = harness.score("sama-bench-g", material, predictions, means, tmp_path, {})
    rows = {(row["metric"], row["reading"]): row["value"] for row in summary["metrics"]}
    grounded = [bool(case.sample.turns[-1].targets) for case in material.cases]
    nothing_due = ("mIoU", "released")  # a right answer without masks is 0 there
    assert rows.pop(nothing_due) == pytest.approx(sum(grounded) / len(grounded))
    assert set(rows.values()) == {1.0} and len(rows) == 3


def test_a_video_that_cannot_be_opened_fails_its_cases_only(world, tiny_sama, tmp_path):
    material = harness.read_material(
        "videorefer-bench-q", world / FILES["videorefer-bench-q"], world, limit=1
    )
    (case,) = material.cases
    broken = tmp_path / "broken.npy"
    broken.write_bytes(b"no video")
    media = type(case.sample.media)("video", str(broken))
    lost = type(case)("lost", type(case.sample)("lost", media, case.sample.turns))
    (found,) = answer_cases(tiny_sama, [lost], masks=False, max_new_tokens=2)
    assert found.error.startswith("MediaError") and found.key == "lost"
