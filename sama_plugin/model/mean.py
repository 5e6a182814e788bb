"""The weighted mean of checkpoints of one lineage: a lesson's start and its end, or several ends.

A long lesson fits what it saw and forgets what it did not; on the straight line between its start
and its end lie weights that keep both (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
models" and "Model soups"). That holds for runs that began at the same weights; LoRA factors are
averaged as such. Used by `sama average`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Mapping, Sequence, Union

from torch import Tensor

from sama_plugin.atomic import atomic_dir
from sama_plugin.errors import CheckpointError
from sama_plugin.model.checkpoint import read_description, read_tensors

SAME = (
    "width",
    "family",
    "tokens",
    "frame_wording",
    "segmenter",
    "segmenter_fingerprint",
    "lora",
    "settings",
)
"""What has to be equal in the descriptions."""
SUM = 1e-6
"""How far from 1 shares may add up to."""


def mean_adapter(
    folders: Sequence[Union[str, Path]], shares: Sequence[float], target: Union[str, Path]
) -> Path:
    """Write the mean of `sama_adapter` folders to `target`, whole or not at all.

    Args:
        folders: two or more. The last one gives the description, the types of the tensors, tensors
            without a mean (whole numbers) and other files.
        shares: one number in 0..1 for each folder, with sum 1.

    Raises:
        CheckpointError: shares that do not fit, or checkpoints of different hosts, settings or
            tensors.
    """
    from safetensors.torch import save_file

    folders = [Path(folder) for folder in folders]
    _check_shares(folders, shares)
    for folder in folders[:-1]:
        _check_same(folder, folders[-1])
    parts = [read_tensors(folder) for folder in folders]
    with atomic_dir(target) as temporary:
        shutil.copytree(folders[-1], temporary, dirs_exist_ok=True)
        for name in parts[-1]:
            mean = _mean([part[name] for part in parts], shares, folders, name)
            save_file(mean, temporary / name)
        _say(temporary / "README.md", folders, shares)
    return Path(target)


def _say(card: Path, folders: Sequence[Path], shares: Sequence[float]) -> None:
    """What the weights are, above the last checkpoint's card."""
    parts = "".join(f"- {share:g} of `{folder}`\n" for share, folder in zip(shares, folders))
    before = card.read_text(encoding="utf-8") if card.exists() else ""
    card.write_text(
        f"# A mean of checkpoints\n\n{parts}\nWhat follows is the card of the last one; its scores "
        f"are not those of the mean.\n\n{before}",
        encoding="utf-8",
    )


def _check_shares(folders: Sequence[Path], shares: Sequence[float]) -> None:
    if len(folders) < 2 or len(shares) != len(folders):
        raise CheckpointError(
            f"{len(folders)} checkpoints and {len(shares)} shares: a mean takes two or more "
            "checkpoints and a share for each"
        )
    if not (min(shares) >= 0 and abs(sum(shares) - 1) <= SUM):  # so that NaN is refused too
        listed = ", ".join(f"{share:g}" for share in shares)
        raise CheckpointError(
            f"shares {listed} (sum {sum(shares):g}): give numbers from 0 to 1 whose sum is 1"
        )


def _check_same(folder: Path, last: Path) -> None:
    one, two = read_description(folder), read_description(last)
    for key in SAME:
        if one.get(key) != two.get(key):
            where, first, second = _difference(key, one.get(key), two.get(key))
            raise CheckpointError(
                f"{folder} has {where} {first!r}, {last} has {second!r}: only checkpoints of one "
                "host with the same settings have a mean"
            )


def _difference(where: str, one: Any, two: Any) -> tuple[str, Any, Any]:
    """The first place, by name, at which two descriptions differ."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in sorted({*one, *two}):
            if one.get(key) != two.get(key):
                return _difference(f"{where}.{key}", one.get(key), two.get(key))
    return where, one, two


def _mean(
    parts: Sequence[Mapping[str, Tensor]],
    shares: Sequence[float],
    folders: Sequence[Path],
    name: str,
) -> dict[str, Tensor]:
    last = parts[-1]
    for part, folder in zip(parts, folders):
        shapes = {key: tuple(tensor.shape) for key, tensor in part.items()}
        if shapes != {key: tuple(tensor.shape) for key, tensor in last.items()}:
            raise CheckpointError(
                f"{folder / name} and {folders[-1] / name} hold other tensors or shapes: only "
                "checkpoints of one lineage have a mean"
            )
    return {
        key: sum(share * part[key].double() for share, part in zip(shares, parts))
        .to(tensor.dtype)
        .contiguous()
        if tensor.is_floating_point()
        else tensor
        for key, tensor in last.items()
    }
