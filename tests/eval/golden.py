"""Golden folders by topic: `cases("res_ciou")` finds every folder of that topic's layout, kept-back
ones (`res_ciou_2`, `res_ciou/more`, ...) included."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


class Topic:
    """One golden folder; reads its JSON files by name."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.meta = self.read("meta")

    def read(self, name: str):
        return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))

    def tolerance(self, part: str = "") -> float:
        """The stated tolerance of the quantities whose list names `part`."""
        stated = self.meta["tolerance"]
        if not isinstance(stated, dict):
            return float(stated)
        (value,) = (v for key, v in stated.items() if part in key.replace(" ", "/").split("/"))
        return float(value)


def topics(root: Path, name: str) -> list[Topic]:
    """Every folder of the topic with a meta.json; at least one."""
    if not any(root.glob(f"{name}*/")):
        pytest.skip(f"{root} has no topic {name}")
    found = sorted(path.parent for path in root.glob(f"{name}*/**/meta.json"))
    assert found, f"no golden case {name} below {root}"
    return [Topic(folder) for folder in found]
