"""Peak memory is this program's own, not what its parent held when it started us."""

from __future__ import annotations

import subprocess
import sys

from sama_plugin.miniworld.memory import peak_gigabytes
from tests.conftest import REPOSITORY

CHILD = "from sama_plugin.miniworld.memory import peak_gigabytes; print(peak_gigabytes())"


def test_a_child_does_not_inherit_the_peak():
    held = bytearray(b"x") * 400_000_000
    child = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert len(held) / 1e9 < peak_gigabytes()
    assert 0.001 < float(child.stdout) < 0.3
