"""`pytest tests/golden` runs every comparison with the reference implementations.

The comparisons lie beside the rooms they are about. Asked for this folder alone, pytest collects
the test files that read golden cases too, and keeps of them what takes the golden root.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ASKED = pytest.StashKey[bool]()


def pytest_configure(config) -> None:
    config.stash[ASKED] = [Path(argument).resolve() for argument in config.args] == [HERE]
    if config.stash[ASKED]:
        files = sorted(HERE.parent.rglob("test_*.py"))
        readers = [file for file in files if "golden" in file.read_text(encoding="utf-8")]
        config.args.extend(str(file) for file in readers if file.parent != HERE)


def pytest_collection_modifyitems(config, items) -> None:
    if config.stash.get(ASKED, False):
        kept = [item for item in items if "sama_golden" in item.fixturenames]
        left = [item for item in items if "sama_golden" not in item.fixturenames]
        config.hook.pytest_deselected(items=left)
        items[:] = kept
