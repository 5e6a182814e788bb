"""Checkpoints that are whole or not there.

The Trainer writes a checkpoint into `.saving/` of the output folder; only when every rank is done
is it renamed to `checkpoint-<step>`. A killed run leaves `.saving/` behind and the older
checkpoints as they were. What is written is
small: `sama_adapter/`, PEFT's files, optimiser, schedule and random state; neither host nor
segmenter weights.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any, ContextManager, Optional, Union

from sama_plugin.atomic import check_writable
from sama_plugin.errors import CheckpointError
from sama_plugin.model.attach import SamaModel
from sama_plugin.model.checkpoint import FOLDER, save_adapter
from sama_plugin.model.sharding import whole

STAGE = ".saving"
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoints(out: Union[str, Path]) -> list[Path]:
    """Complete checkpoints in `out`, oldest step first."""
    found = [(_NAME.fullmatch(path.name), path) for path in Path(out).glob("checkpoint-*")]
    return [path for match, path in sorted(found, key=_step) if match and (path / FOLDER).is_dir()]


def newest_checkpoint(out: Union[str, Path]) -> Optional[Path]:
    """The checkpoint to resume from, or None."""
    found = checkpoints(out)
    return found[-1] if found else None


def start_stage(out: Union[str, Path]) -> Path:
    """An empty folder to write the next checkpoint in; what a killed run left there is removed."""
    stage = check_writable(out) / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    return stage


def publish(stage: Path, name: str, out: Union[str, Path]) -> Path:
    """Rename `stage/name` to `out/name`; a checkpoint of that name is replaced as a whole."""
    final = Path(out) / name
    if not (stage / name / FOLDER).is_dir():
        raise CheckpointError(f"{stage / name} holds no {FOLDER}; the checkpoint is not published")
    if final.exists():
        os.replace(final, stage / f"{name}.replaced")
    os.replace(stage / name, final)
    shutil.rmtree(stage, ignore_errors=True)
    return final


def prune(out: Union[str, Path], keep: Optional[int], spare: Optional[str] = None) -> None:
    """Remove all but the newest `keep` checkpoints (None keeps all) and the one at `spare`."""
    if not keep:
        return
    stage = start_stage(out)
    for path in checkpoints(out)[:-keep]:
        if spare is None or path.resolve() != Path(spare).resolve():
            os.replace(path, stage / path.name)  # a run killed now leaves no half of it there
    shutil.rmtree(stage, ignore_errors=True)


def gathered(model: Any) -> ContextManager[None]:
    """Inside, trained and plugin parameters are whole on every rank (ZeRO-3)."""
    return whole(
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or ".sama." in f".{name}"
    )


def write(sama: SamaModel, model: Any, folder: Union[str, Path]) -> None:
    """`sama_adapter/` and PEFT's files in `folder`; every rank's parameters must be `gathered`."""
    save_adapter(sama, Path(folder) / FOLDER, peft_model=model)


def _step(entry: tuple[Optional[re.Match[str]], Path]) -> int:
    return int(entry[0].group(1)) if entry[0] else -1
