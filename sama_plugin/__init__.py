"""Referring and grounding for InternVL-style chat models, attached without forking the host.

Importing the package is cheap: torch, transformers and sam2 are loaded by the first name that needs
them.

    from sama_plugin import attach, SamaConfig
    sama = attach(model, tokenizer, SamaConfig())       # four taps, no resize, undone by
    sama.detach()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_LAZY = {
    "attach": "sama_plugin.model.attach",
    "SamaModel": "sama_plugin.model.attach",
    "SamaConfig": "sama_plugin.model.config",
    "VideoSession": "sama_plugin.infer.session",
    "Sample": "sama_plugin.dialog.sample",
    "RegionPrompt": "sama_plugin.media.prompts",
    "MaskTrack": "sama_plugin.media.tracks",
    "open_video": "sama_plugin.media.video",
}

__all__ = [*sorted(_LAZY), "__version__"]

if TYPE_CHECKING:
    from sama_plugin.dialog.sample import Sample
    from sama_plugin.infer.session import VideoSession
    from sama_plugin.media.prompts import RegionPrompt
    from sama_plugin.media.tracks import MaskTrack
    from sama_plugin.media.video import open_video
    from sama_plugin.model.attach import SamaModel, attach
    from sama_plugin.model.config import SamaConfig


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'sama_plugin' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
