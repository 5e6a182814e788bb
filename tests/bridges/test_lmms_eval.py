"""Our benchmarks as tasks of lmms-eval, and our model in its harness (with the real package)."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from sama_plugin.bridges.lmms_eval import CLASS, pack, task
from sama_plugin.errors import ConfigError
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.harness import read_material
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.miniworld.write import write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, "heldout", 1)
    return folder


def perfect(case):
    turn = case.sample.turns[-1]
    tracks = tuple(target.track for target in turn.targets)
    phrases = tuple(target.phrase for target in turn.targets)
    return Prediction(case.key, turn.assistant, turn.assistant, phrases, tracks)


def test_a_document_is_its_case(world):
    (case, *_) = read_material("sama-bench-g", world / "sama_bench.json", world, limit=1).cases
    assert task.case_of(json.loads(json.dumps(task.document(case)))) == case
    assert task.case_of({"question": "of another task"}) is None


def test_an_answer_keeps_its_masks_and_words_stay_words():
    track = MaskTrack((2, 3), 4, {1: None})
    found = Prediction("7", "a [SEG]", tracks=(track,))
    assert task.prediction_of("7", task.answer_text(found)) == found
    for text in ("The answer is B", '{"score": 1}', "", "3"):
        assert task.prediction_of("7", text) == Prediction("7", text=text, plain=text)


@pytest.mark.parametrize(
    ("suite", "file", "metric", "words"),
    [
        ("sama-bench-g", "sama_bench.json", ("mIoU", "corrected"), None),
        ("videorefer-bench-q", "videorefer_bench_q.json", ("accuracy", "corrected"), 1.0),
    ],
)
def test_numbers_are_those_of_our_own_harness(suite, file, metric, words, world, monkeypatch):
    monkeypatch.setenv("PATH", "")  # caption metrics need Java and have tests of their own
    cases = read_material(suite, world / file, world).cases
    value = task.aggregation(suite, *metric)
    docs = [task.document(case) for case in cases]
    right = [task.answer_text(perfect(case)) for case in cases]
    assert value(list(zip(docs, right))) == 1.0
    scored = task._values.cache_info().misses
    assert math.isnan(task.aggregation(suite, "no such", "reading")(list(zip(docs, right))))
    assert task._values.cache_info().misses == scored, "answers are scored once for all metrics"
    if words is not None:
        assert value([(doc, doc["answer"]) for doc in docs]) == words
    for reading in ("released", "corrected"):
        assert (metric[0], reading) in pack.METRICS[suite]


def test_a_task_folder(world, tmp_path, capsys):
    arguments = ["--data", str(world / "videorefer_bench_q.json"), "--out", str(tmp_path)]
    assert pack.main(["videorefer-bench-q", *arguments]) == 0
    folder = tmp_path / "videorefer_bench_q"
    assert capsys.readouterr().out.strip() == str(folder)
    lines = (folder / "documents.jsonl").read_text().splitlines()
    cases = read_material("videorefer-bench-q", world / "videorefer_bench_q.json", world).cases
    assert [task.case_of(json.loads(line)).key for line in lines] == [case.key for case in cases]
    space: dict = {}
    exec((folder / "utils.py").read_text(), space)
    yaml = (folder / "videorefer_bench_q.yaml").read_text()
    for name in space["METRICS"]:
        assert f"- metric: {name}\n" in yaml and callable(space[name])
    shards = [str(world / "sama_bench.json")] * 2
    assert pack.main(["sama-bench-g", "--out", str(tmp_path), "--data", *shards]) == 0
    lines = (tmp_path / "sama_bench_g" / "documents.jsonl").read_text().splitlines()
    assert len(lines) == 2 * len(read_material("sama-bench-g", shards[0], world).cases)
    with pytest.raises(ConfigError, match="makes no task"):
        pack.write_task("mevis", world, world, tmp_path)


def test_the_bridge_is_not_imported_unasked():
    code = "import sys, sama_plugin.bridges.lmms_eval; sys.exit('lmms_eval' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class TestInTheHarness:
    """With the installed package; without it these skip and say so."""

    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("lmms_eval", reason="pip install lmms-eval to test the bridge in it")

    def test_the_entry_point_names_a_model(self):
        from lmms_eval.models.registry_v2 import ModelRegistryV2

        from sama_plugin.bridges.lmms_eval import manifest

        registry = ModelRegistryV2()
        registry.register_manifest(manifest())
        found = registry.get_model_class("sama")
        assert f"{found.__module__}.{found.__name__}" == CLASS

    def test_a_run(self, world, tmp_path, monkeypatch):
        from lmms_eval import evaluator
        from lmms_eval.tasks import TaskManager

        from sama_plugin.bridges.lmms_eval import model
        from sama_plugin.miniworld.host import tiny_host
        from sama_plugin.model.attach import attach
        from tests.model.conftest import tiny_config

        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("PATH", "")  # no Java
        tiny = attach(*tiny_host(seed=0), tiny_config())
        monkeypatch.setattr(model, "load_sama", lambda *args: tiny)
        for suite, file in (
            ("sama-bench-g", "sama_bench.json"),
            ("videorefer-bench-q", "videorefer_bench_q.json"),
        ):
            pack.write_task(suite, world / file, world, tmp_path, limit=2)
        found = evaluator.simple_evaluate(
            model=model.SamaForLmmsEval(max_new_tokens=4),
            tasks=["sama_bench_g", "videorefer_bench_q"],
            task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
            gen_kwargs="max_new_tokens=4",
            bootstrap_iters=0,
        )
        assert found["results"]["videorefer_bench_q"]["accuracy_corrected,none"] in (0.0, 0.5, 1.0)
        assert 0 <= found["results"]["sama_bench_g"]["mIoU_corrected,none"] <= 1
