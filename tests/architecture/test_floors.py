"""The house: imports point down. The floors and the allowed same-floor imports are read from here
alone.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "sama_plugin"

FLOORS = {
    0: ("registry", "settings", "errors", "assets", "logs", "atomic"),
    1: ("patching", "media", "dialog", "remote"),
    2: ("nn", "segment", "viz"),
    3: ("hosts",),
    4: ("model", "data"),
    5: ("train", "infer", "eval", "forge"),
    6: ("bridges", "serve", "cli", "miniworld"),
}
SAME_FLOOR = {
    ("dialog", "media"),
    ("segment", "nn"),
    ("model", "data"),
    ("train", "eval"),
    ("eval", "infer"),
    ("forge", "infer"),
    ("cli", "miniworld"),
    ("cli", "bridges"),
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """First folder (or file name) below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path):
    """(line, dotted name) of every import in a file, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module


def rooms_without_the_entry() -> list[Path]:
    return [path for path in MODULES if room_of(path) not in ("__init__", "__main__")]


@pytest.mark.parametrize(
    "path", rooms_without_the_entry(), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_point_down(path):
    room = room_of(path)
    assert room in FLOOR_OF, f"{path} is in no room of the house; give {room!r} a floor"
    for line, name in imported(path):
        if not name.startswith("sama_plugin."):
            continue
        other = name.split(".")[1]
        assert other in FLOOR_OF, f"{path}:{line} imports {name}, which is in no room"
        ground = FLOOR_OF[other] == FLOOR_OF[room] == 0  # single files, one small idea each
        allowed = other == room or ground or (room, other) in SAME_FLOOR
        down = FLOOR_OF[other] < FLOOR_OF[room] or allowed
        assert down, (
            f"{path}:{line} ({room}, floor {FLOOR_OF[room]}) imports {name} (floor "
            f"{FLOOR_OF[other]})"
        )


@pytest.mark.parametrize(
    "path",
    [p for p in rooms_without_the_entry() if FLOOR_OF.get(room_of(p), 9) < 2],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_nothing_below_floor_two_imports_torch(path):
    for line, name in imported(path):
        assert name.split(".")[0] not in ("torch", "torchvision"), f"{path}:{line} imports {name}"


def test_importing_the_package_is_light():
    script = (
        "import sys, sama_plugin; "
        "heavy = {'torch', 'numpy', 'transformers', 'PIL', 'sam2', 'peft'} & set(sys.modules); "
        "print(sorted(heavy)); raise SystemExit(bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, f"import sama_plugin loaded {done.stdout}{done.stderr}"


def test_files_stay_small():
    long = {
        str(p.relative_to(PACKAGE)): n
        for p in MODULES
        if (n := len(p.read_text().splitlines())) > 450
    }
    assert not long, f"past 450 lines a file is two concepts: {long}"
