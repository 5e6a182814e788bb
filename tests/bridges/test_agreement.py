"""Two gloo ranks: equal ledgers go on, any difference stops both with what differs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sama_plugin import __version__
from sama_plugin.bridges.agreement import check_ranks
from sama_plugin.patching.ledger import Ledger
from tests.conftest import REPOSITORY

RANKS = REPOSITORY / "tests" / "bridges" / "agreement_ranks.py"


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What both ranks said, in every case."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    hidden = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        [*command, str(RANKS)],
        env={**kept, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("same", "agreed"),
        (
            "other",
            "stopped: rank 1 runs other code than rank 0: 'allowed host.build: code never read' "
            "there, 'nothing' on rank 0. Install the same versions on every node",
        ),
        (
            "versions",
            "stopped: rank 1 runs other code than rank 0: 'sama_plugin 0.0.0' there, "
            f"'sama_plugin {__version__}' on rank 0. Install the same versions on every node",
        ),
    ],
)
def test_two_ranks_train_together_only_with_the_same_ledger(said, case, message):
    for rank in (0, 1):
        assert f"rank {rank} {case} {message}" in said


def test_alone_there_is_nothing_to_compare():
    check_ranks(Ledger())
