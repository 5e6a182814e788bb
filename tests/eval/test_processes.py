"""Runs that are killed with `kill -9` and runs that several processes share: the same summary."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sama_plugin.errors import ConfigError, DataError
from sama_plugin.eval import harness
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.ranks import Rank
from tests.eval.test_harness import CHOICES, SETTINGS, material, means

NAME = "videorefer-bench-q"
FORK = multiprocessing.get_context("fork")


def slowly(cases):
    for case in cases:
        time.sleep(0.004)
        yield Prediction(case.key, plain="B")


def run(out, rank=Rank(), answer=slowly):  # noqa: B008
    harness.answer_missing(material(CHOICES), answer, out, SETTINGS, rank=rank)


def summary(out):
    found = material(CHOICES)
    predictions = harness.read_predictions(found, out, SETTINGS)
    harness.score(NAME, found, predictions, means(), out, SETTINGS)
    return (out / harness.SUMMARY).read_bytes(), (out / harness.SCORES).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    run(out)
    return summary(out)


@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_points_and_resumed(times, whole, tmp_path):
    rng, begun = random.Random(times), 0
    for attempt in range(times):
        process = FORK.Process(target=run, args=(tmp_path,))
        process.start()
        time.sleep(rng.uniform(0.005, 0.03))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        file = tmp_path / harness.PREDICTIONS
        begun = file.read_bytes().count(b"\n") if file.exists() else 0
        if attempt == 0 and file.exists():
            with open(file, "ab") as stream:
                stream.write(b'{"id": "half a li')
    run(tmp_path)
    lines = (tmp_path / harness.PREDICTIONS).read_text().splitlines()
    ids = [json.loads(line).get("id") for line in lines[1:]]
    assert sorted(ids) == sorted(case.key for case in material(CHOICES).cases), "lost or repeated"
    assert summary(tmp_path) == whole and begun <= len(lines)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_shares_are_whole_and_videos_stay_together(world, whole, tmp_path):
    seen = []

    def remembers(cases):
        seen.append({case.video for case in cases})
        yield from slowly(cases)

    for number in range(world):
        run(tmp_path, Rank(number, world), remembers)
    assert sorted(seen, key=min) == [{f"clip{n}"} for n in range(4)]
    assert summary(tmp_path) == whole


def test_resumed_with_another_number_of_processes(whole, tmp_path):
    run(tmp_path, Rank(0, 2))
    with pytest.raises(DataError, match="was not answered"):
        summary(tmp_path)
    asked = []

    def counts(cases):
        asked.extend(cases)
        yield from slowly(cases)

    for number in range(3):
        run(tmp_path, Rank(number, 3), counts)
    assert len(asked) == len(CHOICES) // 2 and summary(tmp_path) == whole


def test_a_case_answered_twice_is_named(tmp_path):
    run(tmp_path)
    run(tmp_path / "other")
    (tmp_path / "other" / harness.PREDICTIONS).rename(tmp_path / "predictions-0.jsonl")
    with pytest.raises(DataError, match="answered twice"):
        summary(tmp_path)


def test_ranks_come_from_the_environment():
    found = Rank.of_environment({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"})
    assert found == Rank(5, 8, 1) and not found.first
    assert Rank.of_environment({}) == Rank() and Rank().first and Rank().device() is None
    for wrong in ({"RANK": "x"}, {"RANK": "2", "WORLD_SIZE": "2"}):
        with pytest.raises(ConfigError):
            Rank.of_environment(wrong)


SCRIPT = """
import sys
from pathlib import Path
from sama_plugin.eval.ranks import of_this_process
from tests.eval.test_processes import run, summary
rank, out = of_this_process(), Path(sys.argv[1])
run(out, rank)
rank.meet()
if rank.first:
    summary(out)
"""


@pytest.mark.slow
def test_torchrun(whole, tmp_path):
    script = tmp_path / "shared.py"
    script.write_text(SCRIPT)
    root = Path(__file__).resolve().parents[2]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    subprocess.run(
        [*launch, "--standalone", str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        check=True,
        timeout=300,
    )
    assert len(list(tmp_path.glob("predictions-*.jsonl"))) == 2
    assert (tmp_path / harness.SUMMARY).read_bytes() == whole[0]
