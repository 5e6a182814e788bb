"""How the trainers of `internvl_chat` word frames: "Frame-1: ", where the native processor writes
"Frame1: ".
"""

from __future__ import annotations

from sama_plugin.hosts.internvl.prompt import IMAGE_CLOSE, IMAGE_OPEN, IMAGE_TOKEN


def visual_prefix(frames: int, tokens: int, video: bool) -> str:
    """Placeholders for `frames` frames of `tokens` visual tokens each, one line a frame."""
    block = f"{IMAGE_OPEN}{IMAGE_TOKEN * tokens}{IMAGE_CLOSE}\n"
    if not video:
        return block * frames
    return "".join(f"Frame-{number}: {block}" for number in range(1, frames + 1))
