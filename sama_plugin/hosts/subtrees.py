"""Which part of a host a layer belongs to: language model, vision tower or projector.

LoRA of the plugin belongs to the language model alone; a pattern that also matches layers of the
vision tower is seen only when matches are counted part by part. Used by `sama doctor` and by the
bridges.
"""

from __future__ import annotations

import re
from typing import Any, Iterable

LANGUAGE = "language model"
SUBTREES = (LANGUAGE, "vision tower", "projector")
ELSEWHERE = "elsewhere"

_PROJECTOR = re.compile(r"(.*\.)?(multi_modal_projector|mlp1|merger|deepstack_merger_list)(\..*)?")
_VISION = re.compile(r"(.*\.)?(vision_tower|vision_model|visual)(\..*)?")


def count_by_subtree(model: Any, adapter: Any, layers: Iterable[str]) -> dict[str, int]:
    """Number of `layers` in each of `SUBTREES`, and `ELSEWHERE` (a head, an embedding) if any.

    Args:
        model: the bare host. adapter: its `HostAdapter`. layers: names as in `named_modules`.
    """
    decoder = adapter.decoder(model)
    language = next(name for name, module in model.named_modules() if module is decoder)
    counts = dict.fromkeys(SUBTREES, 0)
    for layer in layers:
        part = _subtree(layer, language)
        counts[part] = counts.get(part, 0) + 1
    return counts


def _subtree(layer: str, language: str) -> str:
    if layer == language or layer.startswith(f"{language}."):
        return LANGUAGE
    if _PROJECTOR.fullmatch(layer):
        return "projector"
    return "vision tower" if _VISION.fullmatch(layer) else ELSEWHERE
