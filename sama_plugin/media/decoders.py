"""Which library decodes a video file: decord, PyAV or torchcodec.

All give upright RGB frames in display order under the same numbers, since what is shown and when
comes from `packets` in every case. Colours may differ by a few grey levels between libraries, as
each converts YUV its own way; one run should therefore use one of them. Chosen by argument, by the
environment variable `SAMA_VIDEO_DECODER`, or by what is installed, in the order of `DECODERS`.
Used by `open_video`.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Optional

from sama_plugin.errors import MediaError
from sama_plugin.media.video import VideoReader
from sama_plugin.registry import Registry

VARIABLE = "SAMA_VIDEO_DECODER"
MODULES = {"decord": "decord", "pyav": "av", "torchcodec": "torchcodec"}
"""Decoder to the module it needs, the preferred one first."""

DECODERS = Registry(
    "video_decoders",
    {
        "decord": "sama_plugin.media.video_decord:DecordFile",
        "pyav": "sama_plugin.media.video_pyav:PyAvFile",
        "torchcodec": "sama_plugin.media.video_torchcodec:TorchcodecFile",
    },
)


def open_file(path: Path, decoder: Optional[str] = None) -> VideoReader:
    """A reader for a video file.

    Args:
        decoder: a name in `DECODERS`; None for `SAMA_VIDEO_DECODER`, else what is installed.

    Raises:
        ConfigError: unknown decoder. MediaError: it is not installed, or cannot read the file.
    """
    return DECODERS.get(chosen(decoder))(path)


def chosen(decoder: Optional[str] = None) -> str:
    """Name of the decoder that files are read with.

    Raises:
        ConfigError: unknown decoder. MediaError: it is not installed, or none is.
    """
    asked = decoder or os.environ.get(VARIABLE)
    if asked:
        DECODERS.get(asked)
        if asked in MODULES and not _installed(asked):
            raise MediaError(
                f"video decoder {asked!r} was asked for "
                f"({'argument' if decoder else VARIABLE}), but {MODULES[asked]} is not installed: "
                f"pip install {MODULES[asked]}, or choose another of {', '.join(DECODERS.names())}"
            )
        return asked
    for name in MODULES:
        if _installed(name):
            return name
    raise MediaError(
        "no video decoder is installed: pip install decord (or eva-decord, where decord has no "
        "wheel), av or torchcodec"
    )


def _installed(name: str) -> bool:
    return importlib.util.find_spec(MODULES[name]) is not None
