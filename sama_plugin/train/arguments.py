"""`TrainSettings` to `transformers.TrainingArguments`, for every transformers version that holds a
native InternVL.

Names that changed between versions are chosen by looking at the signature.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Mapping

from sama_plugin.errors import ConfigError
from sama_plugin.registry import nearest
from sama_plugin.train.config import TrainConfig, TrainSettings

GPU_WORKERS = 4
"""Data loading processes a rank, where nothing is said and a GPU does the work."""


def training_arguments(config: TrainConfig) -> Any:
    """`transformers.TrainingArguments` for this run.

    Raises:
        ConfigError: the DeepSpeed file cannot be used, transformers refuses a value, or
            `train.extra` names an argument that it does not know or that a setting already sets.
    """
    from transformers import TrainingArguments

    _check_deepspeed(config)
    known = inspect.signature(TrainingArguments.__init__).parameters
    values = {**_settings(config.train, known), **_loading(config.train, known), **_machine(config)}
    for name in config.train.extra:
        if name not in known:
            raise ConfigError(
                f"train.extra.{name}: TrainingArguments has no such argument{nearest(name, known)}"
            )
        if name in values:
            raise ConfigError(
                f"train.extra.{name} is already set by another setting of the section train; "
                "change that one"
            )
    try:
        return TrainingArguments(**values, **config.train.extra)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"transformers refuses a setting of the section train: {error}"
        ) from error


def _check_deepspeed(config: TrainConfig) -> None:
    file = config.train.deepspeed
    if file is None:
        return
    try:
        stage = json.loads(Path(file).read_text(encoding="utf-8"))["zero_optimization"]["stage"]
    except OSError as error:
        raise ConfigError(f"train.deepspeed: cannot read {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"train.deepspeed: {file} is not a DeepSpeed file with a zero_optimization.stage"
        ) from error
    if stage == 3 and config.model.quantize != "none":
        raise ConfigError(
            f"model.quantize {config.model.quantize} with {file} (ZeRO-3): quantised weights "
            "cannot be divided over ranks; use configs/deepspeed/zero2.json"
        )


def _settings(settings: TrainSettings, known: Mapping[str, Any]) -> dict[str, Any]:
    values = {
        "output_dir": settings.out,
        "max_steps": settings.steps if settings.steps is not None else -1,
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulate,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "lr_scheduler_type": settings.schedule,
        "max_grad_norm": settings.max_grad_norm,
        "seed": settings.seed,
        "deepspeed": settings.deepspeed,
        "logging_steps": settings.log_every,
        "logging_first_step": True,
        "save_steps": settings.save_every,
        "save_total_limit": settings.keep,
        "report_to": ["tensorboard"] if settings.tensorboard else [],
        "disable_tqdm": not settings.progress,
        "remove_unused_columns": False,
        "ddp_find_unused_parameters": False,
    }
    # Since 5.x a `warmup_steps` below 1 is a share of all steps; before, `warmup_ratio` was.
    values["warmup_ratio" if "warmup_ratio" in known else "warmup_steps"] = settings.warmup
    if settings.gradient_checkpointing:
        name = "activation_checkpointing"
        name = name if name in known else "gradient_checkpointing"
        values[name] = True
        values[f"{name}_kwargs"] = {"use_reentrant": False}
    return values


def _loading(settings: TrainSettings, known: Mapping[str, Any]) -> dict[str, Any]:
    """Worker processes, and how far they read ahead; on a CPU they would take the model's cores.

    Workers live for an epoch: kept ones would leave out a draw of the random state at its end, and
    the run would depend on their number.
    """
    import torch

    gpu = torch.cuda.is_available()
    workers = settings.workers if settings.workers is not None else GPU_WORKERS * gpu
    values: dict[str, Any] = {
        "dataloader_num_workers": workers,
        "dataloader_pin_memory": gpu if settings.pin_memory is None else settings.pin_memory,
    }
    if workers:
        values["dataloader_prefetch_factor"] = settings.prefetch
        if "dataloader_multiprocessing_context" in known:
            values["dataloader_multiprocessing_context"] = "fork"  # the collator holds the host
    return values


def _machine(config: TrainConfig) -> dict[str, Any]:
    import torch

    return {
        "use_cpu": not torch.cuda.is_available(),
        "bf16": config.model.dtype == "bfloat16",
        "fp16": config.model.dtype == "float16",
    }
