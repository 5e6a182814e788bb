"""Every benchmark with a data file, from the file to the summary, with a real (untrained) model."""

from __future__ import annotations

import json
from html import escape

import pytest

from sama_plugin.eval import harness
from sama_plugin.eval.asking import Prediction, answer_cases
from sama_plugin.eval.benchmarks import SUITES, Means
from sama_plugin.eval.judge import NoJudge
from sama_plugin.eval.page import write_page
from sama_plugin.eval.phrases import word_overlap
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
    data = sama_data / "seeds" / file
    material = harness.read_material(name, data, sama_data / root, limit=1)

    def answer(cases):
        yield from answer_cases(tiny_sama, cases, masks=SUITES.get(name).MASKS, max_new_tokens=3)

    predictions = harness.predict(material, answer, tmp_path, {})
    assert not any(one.error for one in predictions.values())
    means = Means(NoJudge(), word_overlap, "words")
    summary = harness.score(name, material, predictions, means, tmp_path, {})
    assert summary["metrics"] or summary["not_computed"]
    page = write_page(summary, material, predictions, tmp_path).read_text()
    (key,) = predictions
    assert escape(key) in page and "cases/" in page


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
