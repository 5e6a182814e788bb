"""Every benchmark starts as its docstring says: as a script, with only the package installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

SCRIPTS = sorted(path.name for path in (REPOSITORY / "benchmarks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_it_says_what_it_takes(name, tmp_path):
    command = [sys.executable, str(REPOSITORY / "benchmarks" / name), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
