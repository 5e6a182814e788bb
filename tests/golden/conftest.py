"""`pytest tests/golden` runs every comparison with the reference implementations.

The comparisons lie beside the rooms they are about. Asked for this folder, pytest collects the test
files that read golden cases too, and keeps of them what takes the golden root.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent


def asked_for_this_folder(arguments) -> bool:
    return any(Path(argument).resolve() == HERE for argument in arguments)


def pytest_configure(config) -> None:
    if asked_for_this_folder(config.args):
        files = sorted(HERE.parent.rglob("test_*.py"))
        readers = [file for file in files if "golden" in file.read_text(encoding="utf-8")]
        config.args.extend(str(file) for file in readers if file.parent != HERE)


def pytest_collection_modifyitems(config, items) -> None:
    if asked_for_this_folder(config.args):
        kept = [item for item in items if "sama_golden" in item.fixturenames]
        left = [item for item in items if "sama_golden" not in item.fixturenames]
        config.hook.pytest_deselected(items=left)
        items[:] = kept
