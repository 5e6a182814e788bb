"""The region encoder of a VideoRefer checkpoint, or its `region_encoder.bin`.

Two linear layers turn the vision tower's features under a mask into region tokens. The rest of the
checkpoint is a host of another family (VideoLLaMA2) and stays where it is. The file that is written
has the names of `region.kind: videorefer`, and fits where the visual tokens are as wide as there.
Used by `sama import`.
"""

from __future__ import annotations

from sama_plugin.errors import CheckpointError
from sama_plugin.model.importers.rules import Rule, drop
from sama_plugin.model.importers.shards import Checkpoint

_ENCODER = r"(?:model\.)?region_encoder\."
PARTS = ("feat_linear.0.weight", "feat_linear.0.bias", "feat_linear.2.weight", "feat_linear.2.bias")


def matches(source: Checkpoint) -> bool:
    """Some tensor of a `region_encoder`."""
    return _start(source) is not None


def rules(source: Checkpoint) -> tuple[Rule, ...]:
    """The table: two linear layers, nothing else."""
    return (
        Rule(rf"{_ENCODER}(feat_linear\.[02]\.(?:weight|bias))", (r"adapter:region.\1",)),
        drop(
            r"(model|lm_head)\.(?!region_encoder\.).*",
            "part of the VideoLLaMA2 host, of which only the region encoder is imported",
        ),
    )


def expected(source: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Both layers; the second is as wide as the first one's output."""
    shape = source.shapes.get(f"{_start(source)}feat_linear.0.weight")
    if shape is None or len(shape) != 2:
        raise CheckpointError(
            f"{source.path} has a region encoder without a first layer (feat_linear.0.weight)"
        )
    wide, narrow = shape
    shapes = ((wide, narrow), (wide,), (wide, wide), (wide,))
    return {f"adapter:region.{name}": size for name, size in zip(PARTS, shapes)}


def _start(source: Checkpoint):
    for start in ("model.region_encoder.", "region_encoder."):
        if any(name.startswith(start) for name in source.shapes):
            return start
    return None
