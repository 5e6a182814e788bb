"""What the mini host is taught: the mini world as a training run of the ordinary train room.

The demo, the recipe of the packaged adapter and the aggregator benchmark all train on lessons;
they differ in size only. The base stays what it is: LoRA and the plugin's modules learn.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional, Union

from sama_plugin.assets import asset
from sama_plugin.miniworld.fast_attention import matrix_attention_name
from sama_plugin.miniworld.write import EDITION, sources, write_world
from sama_plugin.model.config import SamaConfig
from sama_plugin.settings import load_yaml
from sama_plugin.train.config import HostConfig, TrainConfig, TrainSettings

SHARES = {"dialogues": 1.7, "regions": 0.9, "expressions": 1.4, "chat": 1.0}
"""How often each kind of data is seen. Plain chat keeps the base's own words alive."""
LONG_SHARES = {**SHARES, "regions": 1.5, "look_alikes": 0.7, "absences": 0.55}
"""The same in a lesson of thousands of steps."""
BASE_WEIGHT = 3.0
"""Of the divergence from the base's own answers on plain chat: half of what chat lost came back."""
CONFIG = Path(__file__).parents[2] / "configs" / "mini.yaml"


def prepare(folder: Union[str, Path], clips: int, seed: int = 0) -> Path:
    """Write `clips` training clips and their annotation files, unless they are there already, of
    this edition.
    """
    folder = Path(folder)
    done = folder / f"complete-{EDITION}-{clips}-{seed}"
    if not done.exists():
        write_world(folder, "train", clips, seed)
        done.write_text("")
    return folder


def lesson(
    world: Union[str, Path],
    out: Union[str, Path],
    steps: int,
    *,
    sama: Optional[SamaConfig] = None,
    batch_size: int = 8,
    rate: float = 1.0,
    seed: int = 0,
    save_every: int = 200,
    shares: Optional[dict[str, float]] = None,
) -> TrainConfig:
    """The training run.

    Args:
        world: a folder made by `prepare`.
        sama: sizes and choices; by default those of configs/mini.yaml.
        rate: factor on all learning rates.
        shares: how often each part of the world is seen (default: SHARES).
    """
    data = tuple(sources(world, "train", shares or SHARES))
    return TrainConfig(
        data=data,
        # half the time on CPUs that have it, and again a third less
        model=HostConfig("mini", dtype="bfloat16", attention=matrix_attention_name()),
        sama=started(sama or mini_config()),
        train=TrainSettings(
            out=str(out),
            steps=steps,
            batch_size=batch_size,
            learning_rate=1e-3 * rate,
            lora_learning_rate=1e-3 * rate,
            mask_decoder_learning_rate=4e-4 * rate,
            weight_decay=0.01,
            warmup=0.04,
            base_weight=BASE_WEIGHT,
            seed=seed,
            epoch_samples=max(1, steps * batch_size),
            save_every=save_every,
            keep=1,
            log_every=10,
        ),
    )


def started(config: SamaConfig) -> SamaConfig:
    """The settings with a pre-trained aggregator (`pretrain_aggregator`), as SAMA's begins with
    InstructBLIP's; one of another kind or size than configs/mini.yaml's begins with nothing.
    """
    if config.start_from or config.aggregator != mini_config().aggregator:
        return config
    return dataclasses.replace(config, start_from=(str(asset("mini/aggregator.safetensors")),))


def mini_config(*overrides: str) -> SamaConfig:
    """configs/mini.yaml, with "a.b=value" overrides."""
    return load_yaml(SamaConfig, CONFIG, overrides)[0]
