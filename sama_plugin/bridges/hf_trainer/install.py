"""`transformers.Trainer.__init__`, wrapped: the model a script hands over gets two senses, its data
becomes ours.

One symbol is enough. When the script constructs its Trainer, the model is attached (the script's
own tokenizer object receives the new tokens), LoRA is added unless the script already wrapped the
model by PEFT, dataset and collator are replaced by those of `--plugin.data`, and the Trainer
instance gets `SamaTraining` in front of its class: learning rates, loss parts, the canary and small
atomic checkpoints. The script's TrainingArguments stay as they are.

The symbol is wrapped when the script imports it, and what the wrapper needs is imported when it is
called: before the script's first line only the plugin's flags are read. Until a Trainer is met a
hook of torch's own watches the optimisers: a script with a training loop of its own is stopped at
its first step, not when it has ended.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator, Optional

from sama_plugin.bridges.agreement import check_ranks
from sama_plugin.errors import PluginError
from sama_plugin.model.config import SamaConfig
from sama_plugin.patching.import_hooks import after_import
from sama_plugin.patching.launch import LaunchOptions
from sama_plugin.patching.ledger import Ledger
from sama_plugin.settings import load_yaml

TRAINER = "transformers.trainer"
OPTIMIZER = "torch.optim.optimizer"
NO_TRAINER = (
    "{} no transformers.Trainer, so the plugin changed nothing; train with `sama train CONFIG`, or "
    "attach by the library (sama_plugin.attach)"
)


def install(ledger: Ledger, options: LaunchOptions) -> None:
    """Have the Trainer's constructor wrapped as soon as there is one.

    Raises:
        PluginError: no `--plugin.data`, or no such file; at the end, no Trainer was constructed.
    """
    run = _Run(_data(options), options.root, _config(options), ledger)
    ledger.hold(run.used())
    ledger.hold(after_import(TRAINER, run.wrap))
    ledger.hold(after_import(OPTIMIZER, run.watch))


@dataclass
class _Run:
    """The flags of one launch, and the Trainers that were given the plugin."""

    data: Path
    root: Optional[str]
    config: SamaConfig
    ledger: Ledger
    trainers: list[str] = field(default_factory=list)
    watching: list[Any] = field(default_factory=list)

    def wrap(self, module: ModuleType) -> None:
        self.ledger.wrap(
            module.Trainer,
            "__init__",
            lambda original: _constructor(original, self),
            "attaches the plugin to the script's model, adds LoRA, gives it our data",
        )

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """An error if the block ends well and no Trainer was met in it."""
        try:
            yield
        finally:
            self.unwatch()
        if not self.trainers:
            raise PluginError(NO_TRAINER.format("the script ended and constructed"))

    def watch(self, module: ModuleType) -> None:
        """Have every optimiser's first step looked at, until a Trainer is met."""
        self.watching.append(module.register_optimizer_step_pre_hook(_refuse_step))

    def unwatch(self) -> None:
        """Leave optimisers alone."""
        while self.watching:
            self.watching.pop().remove()


def _constructor(original: Callable[..., None], run: _Run) -> Callable[..., None]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        from sama_plugin.bridges.hf_trainer.prepare import Preparation
        from sama_plugin.train.trainer import SamaTraining

        if isinstance(self, SamaTraining):
            return original(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        preparation = Preparation(run.data, run.root, run.config, run.ledger)
        sama = preparation.arguments(bound.arguments)
        original(*bound.args, **bound.kwargs)
        self.__class__ = type(f"Sama{type(self).__name__}", (SamaTraining, type(self)), {})
        run.trainers.append(type(self).__name__)
        run.unwatch()
        self.start_sama(sama)
        check_ranks(run.ledger)

    return __init__


def _refuse_step(optimizer: Any, *_: Any) -> None:
    name = type(optimizer).__name__
    raise PluginError(NO_TRAINER.format(f"the script takes a step of {name} and has constructed"))


def _data(options: LaunchOptions) -> Path:
    if options.data is None:
        raise PluginError(
            "the script's own dataset knows neither regions nor masks; give one with --plugin.data "
            "FILE.jsonl (`sama data convert` writes such files), or train with `sama train CONFIG`"
        )
    path = Path(options.data)
    if not path.is_file():
        raise PluginError(f"--plugin.data {path}: no such file")
    return path


def _config(options: LaunchOptions) -> SamaConfig:
    return load_yaml(SamaConfig, options.config, options.set)[0]
