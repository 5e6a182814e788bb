"""One training run from a `TrainConfig`: host, plugin, LoRA, data, loop, adapter.

Used by `sama train`, by the demo and by the benchmarks. The same call runs in every process under
torchrun.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence

from sama_plugin.atomic import check_writable
from sama_plugin.errors import ConfigError
from sama_plugin.logs import get_logger
from sama_plugin.settings import dump_yaml
from sama_plugin.train.config import TrainConfig, check_files

log = get_logger("train")


@dataclass(frozen=True)
class TrainResult:
    """What a run gives back: where the adapter lies, how many steps were done, the mean loss of
    this call.

    `writes` is true in the one process that wrote the files.
    """

    adapter: Path
    steps: int
    loss: float
    writes: bool


def train(
    config: TrainConfig, *, resume: bool = False, callbacks: Sequence[Any] = ()
) -> TrainResult:
    """Train and save `<train.out>/sama_adapter`.

    Args:
        resume: continue from the newest checkpoint of the output folder, bit for bit on CPU.
        callbacks: `transformers.TrainerCallback`s.

    Raises:
        ConfigError: the output folder holds another run's checkpoints and `resume` is off, or a
            file that the run reads does not exist.
    """
    check_files(config)
    from transformers import set_seed

    out = check_writable(config.train.out)
    start = _starting_point(out, resume)
    trainer = build_trainer(config, callbacks)
    set_seed(config.train.seed)
    if trainer.args.should_save:
        dump_yaml(config, out / "train.yaml")
    done = trainer.train(resume_from_checkpoint=None if start is None else str(start))
    trainer.save_model()
    return TrainResult(
        adapter=out / "sama_adapter",
        steps=done.global_step,
        loss=done.training_loss,
        writes=trainer.args.should_save,
    )


def build_trainer(config: TrainConfig, callbacks: Sequence[Any] = ()) -> Any:
    """The `SamaTrainer` of a run, with an attached host, LoRA and data, ready to train."""
    from transformers import set_seed

    from sama_plugin.model.adapters import add_lora
    from sama_plugin.model.attach import attach
    from sama_plugin.model.checkpoint import load_adapter
    from sama_plugin.train.arguments import training_arguments
    from sama_plugin.train.groups import Rates
    from sama_plugin.train.host import load_host
    from sama_plugin.train.material import training_material
    from sama_plugin.train.trainer import SamaTrainer

    settings = config.train
    set_seed(settings.seed)
    host, tokenizer = load_host(config.model)
    arguments = training_arguments(config)
    sama = attach(host, tokenizer, config.sama)
    model = add_lora(sama, config.sama.lora)
    if config.model.adapter is not None:
        load_adapter(sama, config.model.adapter)
    dataset, collator = training_material(
        sama,
        config.data,
        seed=settings.seed,
        max_length=settings.max_length,
        epoch_samples=settings.epoch_samples,
        packing=settings.packing,
    )
    return SamaTrainer(
        sama,
        model,
        arguments,
        rates=Rates(
            settings.learning_rate,
            settings.lora_learning_rate,
            settings.mask_decoder_learning_rate,
        ),
        base_weight=settings.base_weight,
        train_dataset=dataset,
        data_collator=collator,
        callbacks=list(callbacks),
    )


def _starting_point(out: Path, resume: bool) -> Optional[Path]:
    from sama_plugin.train.saving import newest_checkpoint

    newest = newest_checkpoint(out)
    if newest is not None and not resume:
        raise ConfigError(
            f"{out} holds {newest.name} of an earlier run; continue it with --resume, or choose "
            "another --out"
        )
    if newest is None and resume:
        log.warning("%s holds no checkpoint to resume from; starting at step 0", out)
    return newest
