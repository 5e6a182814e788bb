"""From a table of names to a checked plan, and from a plan to files.

A rule says where the tensors whose names match a pattern go, and what is done to them on the way
(kept, split, dropped for a reason). A plan applies the rules to the names and shapes of a
checkpoint, without loading anything, and compares the result with what the target model expects:
an unknown key, a missing one and a wrong shape all fail here, before a byte is written. Used by
every importer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Callable, Mapping, Optional, Sequence

import torch
from torch import Tensor

from sama_plugin.errors import CheckpointError
from sama_plugin.model.importers.shards import Checkpoint, ShardWriter

Split = Callable[[Tensor], Sequence[Tensor]]
SHOWN = 6


def keep(tensor: Tensor) -> Sequence[Tensor]:
    """The tensor as it is."""
    return (tensor,)


def twice(tensor: Tensor) -> Sequence[Tensor]:
    """The tensor for two places."""
    return (tensor, tensor)


def thirds(tensor: Tensor) -> Sequence[Tensor]:
    """A fused (3C, ...) projection as q, k and v."""
    return tensor.chunk(3)


def grouped(heads: int, key_heads: int) -> Split:
    """InternLM2's fused projection, whose rows come per key head: its query heads, one key, one
    value.
    """

    def split(tensor: Tensor) -> Sequence[Tensor]:
        queries = heads // key_heads
        groups = tensor.unflatten(0, (key_heads, queries + 2, -1))  # (kv, q + 2, d, C)
        return (
            groups[:, :queries].flatten(0, 2),
            groups[:, -2].flatten(0, 1),
            groups[:, -1].flatten(0, 1),
        )

    return split


@dataclass(frozen=True)
class Rule:
    """Tensors whose whole name matches `pattern` go to `targets` (with its groups filled in).

    No targets: the tensor is dropped, and `reason` says why.
    """

    pattern: str
    targets: tuple[str, ...] = ()
    split: Split = keep
    reason: str = ""


def drop(pattern: str, reason: str) -> Rule:
    """A rule that leaves matching tensors out."""
    return Rule(pattern, (), keep, reason)


@dataclass
class Plan:
    """What becomes of every tensor of a checkpoint.

    moves: source name to (targets, split). dropped: source name to the reason. filled: expected
    names that no source gives and that the importer makes, with the reason. notes: what the
    result does otherwise than the source, or not at all, for people.
    """

    moves: dict[str, tuple[tuple[str, ...], Split]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    filled: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> list[str]:
        """Sources that keep their name."""
        return [source for source, (targets, _) in self.moves.items() if _same(source, targets)]

    @property
    def renamed(self) -> dict[str, tuple[str, ...]]:
        """Sources that go elsewhere."""
        return {s: t for s, (t, _) in self.moves.items() if not _same(s, t)}

    def report(self) -> dict:
        """Everything, for `import_report.json`."""
        return {
            "used": self.used,
            "renamed": {source: list(targets) for source, targets in self.renamed.items()},
            "dropped": self.dropped,
            "filled": self.filled,
            "notes": list(self.notes),
        }

    def summary(self) -> str:
        """One line of counts."""
        return (
            f"{len(self.moves) + len(self.dropped)} tensors: {len(self.used)} used as named, "
            f"{len(self.renamed)} renamed, {len(self.dropped)} dropped; {len(self.filled)} filled"
        )


def make_plan(
    source: Checkpoint,
    rules: Sequence[Rule],
    expected: Mapping[str, tuple[int, ...]],
    filled: Optional[Mapping[str, str]] = None,
) -> Plan:
    """Apply the first rule that matches each name and compare with the `expected` names and shapes.

    Args:
        filled: expected names that may be absent, with the reason.

    Raises:
        CheckpointError: keys no rule knows, targets nobody expects, expected names nobody gives,
        or shapes that differ.
    """
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    plan, shapes, unknown = Plan(), {}, []
    for name, shape in source.shapes.items():
        rule, match = _first(compiled, name)
        if rule is None:
            unknown.append(name)
        elif not rule.targets:
            plan.dropped[name] = rule.reason
        else:
            targets = tuple(match.expand(target) for target in rule.targets)
            plan.moves[name] = (targets, rule.split)
            shapes.update(zip(targets, _shapes(name, shape, rule.split, len(targets))))
    _refuse(source, "unknown tensors, which no rule of this layout names", unknown)
    _refuse(source, "tensors the target has no place for", [n for n in shapes if n not in expected])
    absent = [name for name in expected if name not in shapes]
    plan.filled = {name: filled[name] for name in absent if filled and name in filled}
    _refuse(source, "no tensors for", [name for name in absent if name not in plan.filled])
    wrong = [
        f"{name} {shapes[name]} (expected {tuple(expected[name])})"
        for name in shapes
        if tuple(shapes[name]) != tuple(expected[name])
    ]
    _refuse(source, "tensors of other shapes than its config says", wrong)
    return plan


def carry_out(plan: Plan, source: Checkpoint, writers: Mapping[str, ShardWriter]) -> None:
    """Read, split and write, shard by shard. Targets are named "part:name", parts name writers."""
    for name, (targets, split) in plan.moves.items():
        for target, tensor in zip(targets, split(source.read(name))):
            part, _, inner = target.partition(":")
            writers[part].put(inner, tensor)


def prefixed(part: str, shapes: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Expected names and shapes of a state dict, as "part:name"."""
    return {f"{part}:{name}": tuple(tensor.shape) for name, tensor in shapes.items()}


def _same(source: str, targets: tuple[str, ...]) -> bool:
    return len(targets) == 1 and targets[0].partition(":")[2] == source


def _first(compiled, name: str):
    for pattern, rule in compiled:
        match = pattern.fullmatch(name)
        if match:
            return rule, match
    return None, None


def _shapes(name: str, shape: tuple[int, ...], split: Split, count: int) -> list[tuple[int, ...]]:
    try:
        parts = split(torch.empty(shape, device="meta"))
    except RuntimeError as error:
        raise CheckpointError(
            f"{name} of shape {shape} cannot be split as its config says ({error}); "
            "are config.json and the weights of the same model?"
        ) from error
    assert len(parts) == count, f"rule of {name}: {len(parts)} parts for {count} targets"
    return [tuple(part.shape) for part in parts]


def _refuse(source: Checkpoint, what: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)
        raise CheckpointError(
            f"{source.path} has {what}: {', '.join(names[:SHOWN])}{more}; nothing was written"
        )
