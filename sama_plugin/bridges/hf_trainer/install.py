"""`transformers.Trainer.__init__`, wrapped: the model a script hands over gets two senses, its data
becomes ours.

One symbol is enough. When the script constructs its Trainer, the model is attached (the script's
own tokenizer object receives the new tokens), LoRA is added unless the script already wrapped the
model by PEFT, dataset and collator are replaced by those of `--plugin.data`, and the Trainer
instance gets `SamaTraining` in front of its class: learning rates, loss parts, the canary and small
atomic checkpoints. The script's TrainingArguments stay as they are.
"""

from __future__ import annotations

import functools
import inspect
import os
from pathlib import Path
from typing import Any, Callable

from sama_plugin.bridges.agreement import check_ranks
from sama_plugin.bridges.hf_trainer.prepare import Preparation
from sama_plugin.errors import PluginError
from sama_plugin.model.config import SamaConfig
from sama_plugin.patching.launch import LaunchOptions
from sama_plugin.patching.ledger import Ledger
from sama_plugin.settings import load_yaml


def install(ledger: Ledger, options: LaunchOptions) -> None:
    """Wrap the Trainer's constructor.

    Raises:
        PluginError: no `--plugin.data`, or no such file.
    """
    import transformers

    preparation = Preparation(_data(options), options.root, _config(options), ledger)
    ledger.wrap(
        transformers.Trainer,
        "__init__",
        lambda original: _constructor(original, preparation),
        "attaches the plugin to the script's model, adds LoRA, gives it our data",
    )


def _constructor(original: Callable[..., None], preparation: Preparation) -> Callable[..., None]:
    from sama_plugin.train.trainer import SamaTraining

    signature = inspect.signature(original)

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(self, SamaTraining):
            return original(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        sama = preparation.arguments(bound.arguments)
        original(*bound.args, **bound.kwargs)
        self.__class__ = type(f"Sama{type(self).__name__}", (SamaTraining, type(self)), {})
        self.start_sama(sama)
        check_ranks(preparation.ledger)

    return __init__


def _data(options: LaunchOptions) -> Path:
    if options.data is None:
        raise PluginError(
            "the script's own dataset knows neither regions nor masks; give one with "
            "--plugin.data FILE.jsonl "
            "(`sama data convert` writes such files), or train with `sama train CONFIG`"
        )
    path = Path(options.data)
    if not path.is_file():
        raise PluginError(f"--plugin.data {path}: no such file")
    return path


def _config(options: LaunchOptions) -> SamaConfig:
    return load_yaml(SamaConfig, options.config or os.devnull, options.set)[0]
