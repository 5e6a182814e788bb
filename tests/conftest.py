"""Where real data and golden numbers are, and what happens without them.

Both lie outside the repository. Without them the tests that need them skip with one loud line each;
with `CI` set a
missing folder is a failure, because there it means that nothing was checked.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tiny tensors: threads that wait for each other cost far more than they save.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def external_folder(variable: str, default: str) -> Path:
    """Folder named by the environment variable, else beside the repository; skips or fails when it
    is not there.
    """
    folder = Path(os.environ.get(variable, REPOSITORY.parent / "shared" / default)).resolve()
    if not folder.is_dir():
        message = (
            f"{variable}: no folder {folder}; set {variable} to run the tests that compare with it"
        )
        if os.environ.get("CI"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return folder


def golden_topic(root: Path, topic: str) -> Path:
    """Folder of a topic. A root that holds other topics only is no failure: kept-back cases lie in
    roots of their own.
    """
    if not (root / topic).is_dir():
        pytest.skip(f"{root} has no topic {topic}")
    return root / topic


def golden_folders(root: Path, topic: str) -> list[Path]:
    """Case folders of a topic, whatever they are called; at least one."""
    folders = sorted(file.parent for file in golden_topic(root, topic).glob("*/meta.json"))
    assert folders, f"{root / topic} holds no case"
    return folders


@pytest.fixture(scope="session")
def sama_data() -> Path:
    """Real videos, masks, images and annotation files."""
    return external_folder("SAMA_DATA", "data")


@pytest.fixture(scope="session")
def sama_golden() -> Path:
    """Numbers produced by the reference implementations."""
    return external_folder("SAMA_GOLDEN", "golden")
