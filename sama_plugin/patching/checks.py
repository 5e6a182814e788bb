"""What `sama doctor` reports, and the checks of the installation itself.

A room that has something to check has a function that returns `Check`s; the verb collects and
prints them. Each package is imported when it is checked: a wheel for another system or another CUDA
has its version in the metadata and does not work.
"""

from __future__ import annotations

import importlib
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
    "tqdm",
    "decord",
    "imageio",
    "imageio-ffmpeg",
    "pycocotools",
    "scipy",
)
OPTIONAL = {  # package: the extra that installs it, and what is missing without it
    "sam2": ("sam2", "masks: [SEG] needs a segmenter"),
    "bitsandbytes": ("qlora", "4-bit hosts"),
    "deepspeed": ("deepspeed", "ZeRO training"),
    "tensorboard": ("log", "TensorBoard logs"),
    "pycocoevalcap": ("eval", "caption metrics"),
}
IMPORTED_AS = {"pillow": "PIL", "pyyaml": "yaml", "imageio-ffmpeg": "imageio_ffmpeg"}
"""Package to the module it brings, where that has another name."""
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
    checks += [_package(package, "error", "missing", "sama_plugin") for package in REQUIRED]
    checks += [
        _package(package, "warning", f"missing ({without})", f"'sama_plugin[{extra}]'")
        for package, (extra, without) in OPTIONAL.items()
    ]
    return [*checks, *_transformers_check()]


def _package(name: str, otherwise: State, missing: str, source: str) -> Check:
    version = _version(name)
    if version is None:
        return Check(name, otherwise, f"{missing}; pip install {source} installs it")
    module = IMPORTED_AS.get(name, name)
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a package that was built for another system raises
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        again = f"pip install --force-reinstall {name}"
        return Check(name, otherwise, f"{version}, but it cannot be imported ({said}); {again}")
    return Check(name, "ok", version)


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
