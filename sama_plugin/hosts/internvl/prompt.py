"""How native InternVL words its visual input.

The native processor writes "Frame{i}: " with i from 1 before each video frame, and nothing before
an image; the trainers of `internvl_chat` write "Frame-{i}: ". The wording is part of a checkpoint.
"""

from __future__ import annotations

IMAGE_OPEN = "<img>"
IMAGE_CLOSE = "</img>"
IMAGE_TOKEN = "<IMG_CONTEXT>"
NATIVE, TRAINERS = "Frame{}: ", "Frame-{}: "


def visual_prefix(frames: int, tokens: int, video: bool, numbered: str = NATIVE) -> str:
    """Placeholders for `frames` frames of `tokens` visual tokens each, one line a frame; those of
    a video `numbered`.
    """
    block = f"{IMAGE_OPEN}{IMAGE_TOKEN * tokens}{IMAGE_CLOSE}\n"
    if not video:
        return block * frames
    return "".join(numbered.format(number) + block for number in range(1, frames + 1))
