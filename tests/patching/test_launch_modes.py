"""An unmodified script under every launcher, in worker processes and with JSON arguments.

The host is a fake package without torch, with every shape that makes a real one hard to patch; its
bridge comes by entry points, as another package's would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

HOST = Path(__file__).with_name("fakehost")
SCRIPT = "fakehost/train/run.py"
ALONE = [sys.executable, "-m", "sama_plugin"]
LAUNCHERS = {
    "torchrun": (["torch.distributed.run", "--nproc_per_node", "2"], "-m", 2),
    "accelerate": (["accelerate.commands.launch", "--cpu", "--num_processes", "1"], "-m", 1),
    "deepspeed": (["deepspeed.launcher.runner", "--num_gpus", "1"], "--module", 1),
}


def environment() -> dict[str, str]:
    hidden = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    return {**kept, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{HOST}", "OMP_NUM_THREADS": "1"}


def launch(line: list, out: Path, **changes) -> tuple[list[dict], str]:
    """Reports of all ranks, and what was printed."""
    done = subprocess.run(
        [*map(str, line)], cwd=HOST, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    reports = [json.loads(path.read_text()) for path in sorted(out.glob("rank*.json"))]
    return reports, done.stderr


def check(report: dict) -> None:
    assert report["name"] == "fakehost.train.run" and report["kind"] == "SamaItems"
    ours = {"value": -2, "extra": "ours"}
    assert report["read"] == [{"value": 1, "extra": 10}, ours, {"value": 3, "extra": 30}]
    assert report["helped"] == 2


@pytest.mark.parametrize("start", ["", "spawn", "fork"])
def test_plain_python_and_its_workers(tmp_path, start):
    flags = [f"--out={tmp_path}", f"--start={start}", "--lr=1e-4"]
    reports, said = launch([*ALONE, SCRIPT, *flags, "--plugin", "sama"], tmp_path)
    check(reports[0])
    assert reports[0]["settings"] == {"out": str(tmp_path), "start": start, "lr": "1e-4"}
    assert "wrapped fakehost.train.run.build: our rows" in said
    assert "swapped the class of a fakehost.data.Items" in said


def test_json_arguments(tmp_path):
    arguments = tmp_path / "arguments.json"
    arguments.write_text(json.dumps({"out": str(tmp_path), "start": "spawn", "plugin": "sama"}))
    reports, _ = launch([*ALONE, SCRIPT, arguments], tmp_path)
    check(reports[0])
    assert reports[0]["settings"] == {"out": str(tmp_path), "start": "spawn"}


@pytest.mark.parametrize("name", sorted(LAUNCHERS))
def test_under_a_launcher(tmp_path, name):
    module, flag, ranks = LAUNCHERS[name]
    pytest.importorskip(module[0].split(".")[0])
    line = [sys.executable, "-m", *module, flag, "sama_plugin", SCRIPT]
    reports, _ = launch([*line, f"--out={tmp_path}", "--plugin", "sama"], tmp_path)
    assert len(reports) == ranks
    for report in reports:
        check(report)
        assert report["settings"]["out"] == str(tmp_path)


def test_the_script_alone_is_untouched(tmp_path):
    code = (
        f"import sys; sys.argv[1:] = ['--out={tmp_path}']; import fakehost.train.run as r; r.main()"
    )
    reports, _ = launch([sys.executable, "-c", code], tmp_path)
    assert reports[0]["kind"] == "Items" and reports[0]["read"][1] == {"value": 2}


def test_an_unverified_patch_is_named(tmp_path):
    line = [*ALONE, SCRIPT, f"--out={tmp_path}", "--plugin=sama", "--plugin.allow-unverified=fak"]
    done = subprocess.run(line, cwd=HOST, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert "fak: no such patch" in done.stderr and "fake.build, fake.forward" in done.stderr
