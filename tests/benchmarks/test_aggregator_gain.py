"""The aggregator benchmark on random weights: both arms train, are scored, nothing twice."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from benchmarks import aggregator_gain as bench
from sama_plugin.miniworld.host import tiny_host


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A tiny host on disk, with random weights."""
    folder = tmp_path_factory.mktemp("host")
    for part in tiny_host(seed=0):
        part.save_pretrained(folder)
    return folder


SMALL = (
    "seg.weights=random", "seg.points=64", "aggregator.hidden=16", "aggregator.heads=2",
    "aggregator.ffn=32", "aggregator.encoder_width=24", "lora.r=2",
)  # fmt: skip


def run(monkeypatch, folder, host, *flags):
    settings = [word for setting in SMALL for word in ("--set", setting)]
    paths = ["--model", str(host), "--work", str(folder / "work"), "--out", str(folder / "r.json")]
    small = ["--steps", "2", "--batch", "2", "--clips", "2", "--scored", "1"]
    monkeypatch.setattr(sys, "argv", ["aggregator_gain.py", *small, *paths, *settings, *flags])
    bench.main()
    return json.loads((folder / "r.json").read_text())


def test_two_steps_on_random_weights(monkeypatch, tmp_path, host, capsys):
    monkeypatch.setattr(bench, "PER_TASK", 2)
    report = run(monkeypatch, tmp_path, host)
    assert set(report["arms"]) == {"sama", "none"}
    assert report["n"] == report["arms"]["sama"]["n"] == report["arms"]["none"]["n"] > 0
    values = [report["arms"][arm]["value"] for arm in ("sama", "none")]
    assert report["gain"] == pytest.approx(values[0] - values[1], abs=1e-4)
    assert report["low"] <= report["gain"] <= report["high"]
    for arm in report["arms"].values():
        (facts,) = arm["runs"]
        assert facts["steps"] == 2 and facts["seconds"] > 0 and facts["commit"]
    sizes = [report["arms"][arm]["runs"][0]["parameters"] for arm in ("sama", "none")]
    assert sizes[0] > sizes[1]
    assert "all" in capsys.readouterr().out

    monkeypatch.setattr(bench, "train", None)
    monkeypatch.setattr(bench, "score_clip", None)
    assert run(monkeypatch, tmp_path, host) == report, "a finished run is only read"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["r.json", "work"], "the result appears whole"


def test_an_interrupted_scoring_goes_on_at_the_next_clip(monkeypatch, tmp_path, host):
    monkeypatch.setattr(bench, "PER_TASK", 1)
    score_clip, asked = bench.score_clip, []

    def recording(sama, seed, *rest):
        asked.append(seed)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return score_clip(sama, seed, *rest)

    monkeypatch.setattr(bench, "score_clip", recording)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, tmp_path, host, "--scored", "2")
    assert not (tmp_path / "r.json").exists()
    report = run(monkeypatch, tmp_path, host, "--scored", "2")
    first, second = bench.FIRST_SEED, bench.FIRST_SEED + 1
    assert asked == [first, second, second, first, second]
    assert report["budget"]["scored"] == 2


def test_only_motion_and_history_are_asked():
    from sama_plugin.miniworld.cases import clip_cases

    cases = [case for seed in range(8) for case in clip_cases(bench.FIRST_SEED + seed, 12).cases]
    kinds = {bench.kind_of(case.kind) for case in cases if bench.wanted(case)}
    assert kinds == set(bench.KINDS)
    assert not {"what", "colour", "plain"} & kinds


def test_arms_differ_in_the_aggregator_alone(tmp_path):
    def settings(arm):
        config = bench.run_of(arm, 3, 10, 4, tmp_path, "mini", ())
        assert (config.sama.frames.aggregator, config.sama.frames.llm) == (8, 2)
        return bench.to_dict(config)

    one, two = settings("sama"), settings("none")
    assert one["sama"]["aggregator"].pop("kind") == "sama"
    assert two["sama"]["aggregator"].pop("kind") == "none"
    assert len(one["sama"].pop("start_from")) == 1  # the aggregator's own weights
    assert two["sama"].pop("start_from") == []
    assert one == two


def test_intervals_count_clips_not_cases():
    """Three copies of every case in a clip say nothing new; the plain interval is the known one."""
    values = np.random.default_rng(0).random(50)
    alone = bench.mean_interval([np.array([value]) for value in values])
    copied = bench.mean_interval([np.full(3, value) for value in values])
    assert {**copied, "n": 50} == alone
    half = 1.96 * values.std() / np.sqrt(50)
    assert alone["high"] - alone["value"] == pytest.approx(half, abs=1e-3)
    assert bench.mean_interval([])["value"] is None
