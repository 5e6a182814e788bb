"""Everything `sama train CONFIG` needs, as dataclasses; YAML under `configs/train/` fills them.

`train` holds the few settings that people change; anything else that
`transformers.TrainingArguments` knows goes into `train.extra` under its own name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

from sama_plugin.data.sources import SourceConfig
from sama_plugin.errors import ConfigError
from sama_plugin.model.config import SamaConfig


@dataclass
class HostConfig:
    """Which host is fine-tuned."""

    path: str = "mini"  # folder or hub id; "mini" is packaged, "tiny" is random and for trials
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    quantize: Literal["none", "4bit"] = "none"  # 4bit: QLoRA through bitsandbytes
    attention: Optional[str] = None  # transformers' attn_implementation; None lets it choose
    adapter: Optional[str] = None  # a sama_adapter/ folder to start from


LEAST = {
    **dict.fromkeys(["steps", "batch_size", "accumulate", "max_length", "epoch_samples"], 1),
    **dict.fromkeys(["prefetch", "log_every", "save_every"], 1),
    **dict.fromkeys(["learning_rate", "lora_learning_rate", "mask_decoder_learning_rate"], 0),
    **dict.fromkeys(["epochs", "weight_decay", "warmup", "max_grad_norm", "base_weight"], 0),
    **dict.fromkeys(["seed", "workers", "keep"], 0),
}
"""Setting of `train` to its smallest value."""


@dataclass
class TrainSettings:
    """Steps, rates and outputs. Learning rates: the plugin's modules, LoRA, and the copy of the
    mask decoder."""

    out: str = "out/train"
    steps: Optional[int] = None  # optimiser steps; None trains for `epochs`
    epochs: float = 1.0
    batch_size: int = 1  # samples a rank and micro-step
    accumulate: int = 1  # micro-steps a step
    learning_rate: float = 1e-4
    lora_learning_rate: float = 2e-4
    mask_decoder_learning_rate: float = 4e-5
    weight_decay: float = 0.05  # not applied to norms, biases and token rows
    warmup: float = 0.03  # share of all steps
    schedule: str = "cosine"
    max_grad_norm: float = 1.0
    seed: int = 0
    max_length: int = 8192  # tokens; a longer sample is an error, never cut
    packing: bool = False  # the samples of a micro-step share one row, without padding
    base_weight: float = 0.0  # on plain chat: of the divergence from the base's own answers
    epoch_samples: Optional[int] = None  # by the sources' weights; None: each source in full
    workers: Optional[int] = None  # data loading processes a rank; None: 4 with a GPU, else 0
    prefetch: int = 4  # batches that each of them keeps ready
    pin_memory: Optional[bool] = None  # page-locked batches; None: with a GPU
    gradient_checkpointing: bool = False
    deepspeed: Optional[str] = None  # a file of configs/deepspeed/
    log_every: int = 10  # steps
    save_every: int = 500  # steps
    keep: int = 2  # newest checkpoints that are kept
    tensorboard: bool = False
    progress: bool = True
    extra: dict[str, Any] = field(default_factory=dict)  # more TrainingArguments, by their names

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and not least <= value < float("inf"):
                raise ConfigError(f"train.{name} is {value}; give {least} or more")
        if self.epochs <= 0 or self.warmup >= 1 or self.seed >= 2**32:
            raise ConfigError(
                f"train.epochs {self.epochs:g} must be above 0, train.warmup {self.warmup:g} (a "
                f"share of all steps) below 1, train.seed {self.seed} below 2**32"
            )


@dataclass
class TrainConfig:
    """A training run: host, plugin, data, settings."""

    data: tuple[SourceConfig, ...] = ()
    model: HostConfig = field(default_factory=HostConfig)
    sama: SamaConfig = field(default_factory=SamaConfig)
    train: TrainSettings = field(default_factory=TrainSettings)

    def __post_init__(self) -> None:
        if not self.data:
            raise ConfigError("data: no source is named; give at least one {format, path}")
        self._check_shares()
        if self.model.quantize == "4bit" and self.sama.lora.r == 0:
            raise ConfigError(
                "model.quantize 4bit trains adapters only, but sama.lora.r is 0; set sama.lora.r"
            )
        alone = self.sama.lora.r == 0 or self.train.deepspeed or self.train.packing
        if self.train.base_weight and alone:
            raise ConfigError(
                f"train.base_weight {self.train.base_weight:g} compares plain samples with the "
                "host without its LoRA, row by row in a forward of their own: it needs sama.lora.r "
                "above 0, no packing and no DeepSpeed "
                f"(sama.lora.r {self.sama.lora.r}, train.packing {self.train.packing}, "
                f"train.deepspeed {self.train.deepspeed})"
            )
        if self.train.deepspeed and self.sama.lora.r == 0:
            raise ConfigError(
                "train.deepspeed with sama.lora.r 0: DeepSpeed would write the whole frozen host "
                "into every checkpoint; set sama.lora.r, or train without DeepSpeed"
            )

    def _check_shares(self) -> None:
        """A share that this kind of epoch does not look at would be ignored in silence."""
        counted = "repeat" if self.train.epoch_samples is None else "weight"
        ignored = "weight" if counted == "repeat" else "repeat"
        for i, source in enumerate(self.data):
            if getattr(source, ignored) != 1.0:
                raise ConfigError(
                    f"data.{i}.{ignored} is {getattr(source, ignored):g}, which counts only "
                    f"{'with' if ignored == 'weight' else 'without'} train.epoch_samples "
                    f"({self.train.epoch_samples}); set {counted} instead"
                )


def check_files(config: TrainConfig) -> None:
    """What the run reads is there; asked before a large host is loaded.

    Raises:
        ConfigError: an annotation, adapter, or file of weights does not exist.
    """
    sama = config.sama
    weights = () if sama.seg.weights == "random" else (sama.seg.weights,)
    named = {
        **{f"data.{i}.path": (source.path,) for i, source in enumerate(config.data)},
        "model.adapter": (config.model.adapter,),
        "sama.seg.weights": weights,
        "sama.start_from": sama.start_from,
    }
    for setting, paths in named.items():
        for path in paths:
            if path is not None and not Path(path).exists():
                raise ConfigError(
                    f"{setting} is {path}, which does not exist (relative paths start where the "
                    f"command runs: {Path.cwd()})"
                )
