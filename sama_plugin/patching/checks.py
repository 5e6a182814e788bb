"""What `sama doctor` reports, and the checks of the installation itself.

A room that has something to check has a function that returns `Check`s; the verb collects and
prints them. Versions are read from package metadata, so nothing heavy is imported here.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import Literal, Optional

State = Literal["ok", "warning", "error"]

REQUIRED = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "numpy",
    "pillow",
    "pyyaml",
    "decord",
    "imageio",
    "pycocotools",
)
OPTIONAL = {  # package: the extra that installs it, and what is missing without it
    "sam2": ("sam2", "masks: [SEG] needs a segmenter"),
    "bitsandbytes": ("qlora", "4-bit hosts"),
    "deepspeed": ("deepspeed", "ZeRO training"),
    "tensorboard": ("log", "TensorBoard logs"),
}
NATIVE_HOST = (4, 55)
"""First transformers release whose native InternVL the plugin can hold."""


@dataclass(frozen=True)
class Check:
    """One line of the report: what was looked at, how it stands, what was found."""

    name: str
    state: State
    found: str


def environment_checks() -> list[Check]:
    """Python and packages."""
    system = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    checks = [Check("python", "ok" if sys.version_info >= (3, 9) else "error", system)]
    for package in REQUIRED:
        version = _version(package)
        found = version or "missing; pip install sama_plugin installs it"
        checks.append(Check(package, "ok" if version else "error", found))
    for package, (extra, without) in OPTIONAL.items():
        version = _version(package)
        found = version or f"missing ({without}); pip install 'sama_plugin[{extra}]'"
        checks.append(Check(package, "ok" if version else "warning", found))
    return [*checks, *_transformers_check()]


def _transformers_check() -> list[Check]:
    version = _version("transformers")
    if version is None or _numbers(version) >= NATIVE_HOST:
        return []
    wanted = ".".join(map(str, NATIVE_HOST))
    found = f"transformers {version} has no native InternVL that the plugin can hold; {wanted} has"
    return [Check("native InternVL", "warning", found)]


def _version(package: str) -> Optional[str]:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
