"""A benchmark that is released in several files is one benchmark, with a table by dataset."""

from __future__ import annotations

import pytest

from sama_plugin.cli import main
from sama_plugin.eval import harness
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means
from sama_plugin.eval.hashes import files_hash, path_hash
from sama_plugin.eval.judge import NoJudge
from sama_plugin.eval.phrases import word_overlap

SHARDS = ("mevis.json", "lvvis_0.json", "VidSTG_0.json")
DATASETS = {"mevis": 2, "lvvis": 3, "VidSTG": 2}
LOST = 1
"""One question of the seed files has more marks than regions."""


@pytest.fixture
def shards(sama_data):
    return [sama_data / "seeds/sama_bench" / name for name in SHARDS]


def perfect_but_for_lvvis(cases):
    for case in cases:
        turn = case.sample.turns[-1]
        found = turn.targets if case.kind != "lvvis" else ()
        yield Prediction(
            case.key,
            turn.assistant,
            phrases=tuple(target.phrase for target in found),
            tracks=tuple(target.track for target in found),
        )


def test_shards_are_one_benchmark_with_types(shards, sama_data, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")  # caption metrics have tests of their own
    found = harness.read_material("sama-bench-g", shards, sama_data / "frames")
    apart = [harness.read_material("sama-bench-g", one, sama_data / "frames") for one in shards]
    assert found.cases == [case for one in apart for case in one.cases]
    assert len(found.bad) == LOST and not found.doubled
    predictions = harness.predict(found, perfect_but_for_lvvis, tmp_path, {})
    means = Means(NoJudge(), word_overlap, "words")
    summary = harness.score("sama-bench-g", found, predictions, means, tmp_path, {})
    rows = {(row["metric"], row["reading"]): row for row in summary["metrics"]}
    kinds = rows["mIoU", "corrected"]["kinds"]
    assert {kind: one["n"] for kind, one in kinds.items()} == DATASETS
    assert {kind: one["value"] for kind, one in kinds.items()} == {
        kind: float(kind != "lvvis") for kind in DATASETS
    }
    assert rows["mIoU", "corrected"]["value"] == pytest.approx(2 / 3), "every video weighs 1"
    assert set(rows["mIoU", "released"]["kinds"]) == set(DATASETS)


def test_the_hash_knows_every_shard(shards):
    assert files_hash(shards[:1]) == path_hash(shards[0])
    hashes = {files_hash(some) for some in (shards, shards[:2], shards[::-1])}
    assert len(hashes) == 3


def test_a_shard_given_twice_or_missing_is_named(shards, tmp_path, capsys):
    command = ["eval", "sama-bench-g", "--out", str(tmp_path), "--data"]
    assert main([*command, str(shards[0]), str(shards[0])]) != 0
    assert "would count twice" in capsys.readouterr().err
    assert main([*command, str(shards[0]), str(tmp_path / "VidSTG_7.json")]) != 0
    assert "VidSTG_7.json: no such file" in capsys.readouterr().err
