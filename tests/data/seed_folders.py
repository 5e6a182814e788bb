"""The seed folders below SAMA_DATA/seeds, found by name, and the tests that read them.

`seeds_of("mevis")` runs a test or class once for every folder of that format: `mevis` itself, every
kept-back `mevis_*` or `mevis-*`, and a folder of any other name whose expected.json says MeViS.
`test_seeds_coverage` fails on a folder no such test reads.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import pytest

from sama_plugin.data.report import Quarantine
from sama_plugin.media import masks

REPOSITORY = Path(__file__).resolve().parents[2]
FORMATS = {
    "gcg": "grounded caption",
    "internvl_jsonl": "InternVL",
    "lvvis": "LV-VIS",
    "mevis": "MeViS",
    "osprey": "Osprey",
    "ref_sav": "Ref-SAV",
    "ref_youtube_vos": "Ref-YouTube-VOS",
    "refcoco": "RefCOCO",
    "revos": "ReVOS",
    "sa2va_finetune": "Sa2VA",
    "sama_239k": "SAMA-239K",
    "sama_bench": "SAMA-Bench",
    "videorefer_700k": "VideoRefer-700K",
    "videorefer_bench": "VideoRefer-Bench",
    "videorefer_vl3": "VideoRefer-VideoLLaMA3",
    "vidstg": "VidSTG",
}
"""Layouts that have a seed folder, and how expected.json starts to name them; a new one is added
here and read by a test."""

READ: set[str] = set()
"""Formats that some test reads; filled when the test modules are imported."""


@dataclass(frozen=True)
class Seed:
    """One seed folder.

    Attributes:
        folder: annotation files. expected: what a correct loader yields. data: SAMA_DATA.
    """

    folder: Path
    expected: dict[str, Any]
    data: Path

    @property
    def root(self) -> Path:
        """Where media paths start."""
        named = self.expected.get("media_root") or self.expected.get("image_root")
        return self.data / (named or "frames")

    def file(self, pattern: str) -> Path:
        """The one file of this pattern, whatever a kept-back folder calls it."""
        (found,) = (path for path in self.folder.glob(pattern) if path.name != "expected.json")
        return found


def folders() -> list[Path]:
    """Every seed folder there is."""
    root = Path(os.environ.get("SAMA_DATA", REPOSITORY.parent / "shared" / "data"))
    return sorted(path for path in root.resolve().glob("seeds/*") if path.is_dir())


def format_of(folder: Path) -> Optional[str]:
    """The longest format whose name the folder's name starts with, else what its expected.json
    says."""
    fits = [name for name in FORMATS if f"{folder.name}_".replace("-", "_").startswith(f"{name}_")]
    expected = folder / "expected.json"
    if not fits and expected.is_file():
        stated = str(json.loads(expected.read_text()).get("format", ""))
        fits = [name for name, start in FORMATS.items() if stated.startswith(start)]
    return max(fits, key=len, default=None)


def seeds_of(name: str) -> Any:
    """Run a test or a class for every folder of a format; without one it fails."""
    READ.add(name)
    found = [path.name for path in folders() if format_of(path) == name]
    return pytest.mark.parametrize("seed", found or [name], indirect=True)


def load(folder: Path, data: Path) -> Seed:
    """A folder with its expectations."""
    return Seed(folder, json.loads((folder / "expected.json").read_text()), data)


def reasons(report: Quarantine, record: Any = None) -> set[str]:
    """Reason codes of what was dropped or noted, of one record or of all."""
    found = report.dropped + report.noted
    return {error.reason for error in found if record is None or str(error.record) == str(record)}


def areas(track: Any) -> list[int]:
    """Mask area of every known frame; 0 where the object is absent."""
    return [track.area(frame) for frame in track.frames()]


def prompt_areas(region: Any) -> dict[int, int]:
    """Frame to area of a region's mask prompts."""
    return {prompt.frame: masks.area(prompt.mask) for prompt in region.prompts}
