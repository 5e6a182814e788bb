"""A training run small enough for a test: the tiny host, five samples of every kind, few steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sama_plugin.data.formats import sama as own_format
from sama_plugin.data.sources import SourceConfig
from sama_plugin.dialog.sample import Media, Sample, Turn
from sama_plugin.train.config import HostConfig, TrainConfig, TrainSettings
from tests.data.factories import grounded_sample, plain_sample, region, text_sample, write_clip
from tests.model.conftest import tiny_config


def referring_sample(source: str, name: str = "referring") -> Sample:
    """A region in the question, no mask in the answer."""
    turn = Turn("what is <region>?", "a red ball.", regions=(region(5),))
    return Sample(name, Media("video", source), (turn,))


def every_kind(folder: Path) -> list[Sample]:
    """Grounded, referring, plain and text-only samples about one clip in `folder`."""
    clip = write_clip(folder / "clip.npy")
    return [
        grounded_sample(clip),
        referring_sample(clip),
        plain_sample(clip),
        text_sample(),
        grounded_sample(clip, "grounded again"),
    ]


def write_data(folder: Path, samples: list[Sample] | None = None) -> Path:
    """Our JSONL of `samples` (by default of every kind) and their clip."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "train.jsonl"
    own_format.write(samples if samples is not None else every_kind(folder), path, folder)
    return path


def tiny_run(
    data: Path,
    out: Path,
    *,
    lora_dropout: float = 0.0,
    mask_decoder: bool = False,
    **train: Any,
) -> TrainConfig:
    """Two steps of the tiny host by default; keyword arguments are train settings."""
    settings = {
        "steps": 2,
        "learning_rate": 1e-3,
        "log_every": 1,
        "save_every": 1000,
        "warmup": 0.0,
        "progress": False,
    }
    sama = tiny_config()
    sama.lora.dropout = lora_dropout
    sama.seg.train_mask_decoder = mask_decoder
    return TrainConfig(
        data=(SourceConfig(format="sama", path=str(data)),),
        model=HostConfig(path="tiny"),
        sama=sama,
        train=TrainSettings(out=str(out), **{**settings, **train}),
    )


def history(out: Path) -> list[dict[str, Any]]:
    """Training lines of the newest checkpoint's log."""
    from sama_plugin.train.saving import newest_checkpoint

    state = json.loads((newest_checkpoint(out) / "trainer_state.json").read_text())
    return [line for line in state["log_history"] if "loss" in line]
