"""How native InternVL words its visual input.

The native processor writes "Frame{i}: " with i from 1 before each video frame, and nothing before
an image (upstream's own trainer writes "Frame-{i}: "; the wording is therefore part of a
checkpoint).
"""

from __future__ import annotations

IMAGE_OPEN = "<img>"
IMAGE_CLOSE = "</img>"
IMAGE_TOKEN = "<IMG_CONTEXT>"


def visual_prefix(frames: int, tokens: int, video: bool) -> str:
    """Placeholders for `frames` frames of `tokens` visual tokens each, one line a frame."""
    block = f"{IMAGE_OPEN}{IMAGE_TOKEN * tokens}{IMAGE_CLOSE}\n"
    if not video:
        return block * frames
    return "".join(f"Frame{number}: {block}" for number in range(1, frames + 1))
