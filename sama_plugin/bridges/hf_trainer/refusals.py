"""What a Trainer script may not do under the plugin, refused before the first step.

Each of these would train, save or score something else than the plugin's two senses without saying
so. Used by `prepare.py`.
"""

from __future__ import annotations

import functools
import re
from types import CodeType
from typing import Any, Iterator, Mapping, Optional

from transformers import Trainer

from sama_plugin.errors import PluginError
from sama_plugin.hosts.subtrees import count_by_subtree
from sama_plugin.model.attach import SamaModel, unwrap

FEW_LOGITS = ("logits_to_keep", "num_logits_to_keep")
"""Arguments of a host's forward that leave positions, and with them [SEG], out of the logits."""


def refuse_arguments(arguments: Mapping[str, Any]) -> None:
    """Arguments of a Trainer's constructor (`self` among them) that the plugin cannot train with.

    Raises:
        PluginError: no built model, an optimiser, an evaluation or fewer logits of the script's
            own.
    """
    model = arguments.get("model")
    if model is None:
        raise PluginError(
            "the script gives its Trainer no model (model_init?); the plugin must attach to a "
            "built one"
        )
    if (arguments.get("optimizers") or (None, None))[0] is not None:
        raise PluginError(
            "the script gives its Trainer an optimiser, which would not hold the plugin's "
            "parameters; let the Trainer create it"
        )
    training = arguments.get("args")
    if str(getattr(training, "eval_strategy", "no")).rpartition(".")[2].lower() != "no":
        raise PluginError(
            "the script evaluates during training on its own dataset, which knows no regions; "
            "pass --eval_strategy no and score the adapter with `sama eval`"
        )
    where = _few_logits(type(arguments["self"]), unwrap(model))
    if where is not None:
        raise PluginError(
            f"{where} uses logits_to_keep, which leaves out the positions of [SEG] that masks are "
            "read from; let the model give all logits"
        )


def refuse_foreign_lora(sama: SamaModel) -> None:
    """LoRA that the script added where `sama_adapter` does not keep it.

    Raises:
        PluginError: with the number of such layers in each part of the host.
    """
    names = [name for name, module in sama.host.named_modules() if hasattr(module, "lora_A")]
    targets = tuple(sama.adapter.lora_names(sama.host))
    kept = re.compile(sama.adapter.lora_pattern(sama.host, targets))
    others = [name for name in names if not kept.fullmatch(name)]
    if not others:
        return
    counts = count_by_subtree(sama.host, sama.adapter, others)
    parts = ", ".join(f"{part} {count}" for part, count in counts.items() if count)
    raise PluginError(
        f"the script put LoRA on {len(others)} layers that sama_adapter does not keep ({parts}; "
        f"first: {others[0]}); narrow its LoRA targets to the language model, for instance "
        f"target_modules=r'{sama.adapter.lora_pattern(sama.host, targets)}', or leave LoRA to the "
        "plugin"
    )


def _few_logits(kind: type, host: Any) -> Optional[str]:
    """The code of the script that names one of `FEW_LOGITS`: a method of its Trainer, or a
    `forward` it put on the model."""
    for base in kind.__mro__[: kind.__mro__.index(Trainer)]:
        for name, member in vars(base).items():
            if _mentions(member):
                return f"{base.__qualname__}.{name}"
    return "the model's own forward" if _mentions(vars(host).get("forward")) else None


def _mentions(member: Any) -> bool:
    if isinstance(member, functools.partial):
        return any(name in FEW_LOGITS for name in member.keywords) or _mentions(member.func)
    code = getattr(getattr(member, "__func__", member), "__code__", None)
    return code is not None and any(name in FEW_LOGITS for name in _words(code))


def _words(code: CodeType) -> Iterator[str]:
    """Names and text constants of a function and of those inside it."""
    yield from (*code.co_names, *code.co_varnames)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _words(constant)
        elif isinstance(constant, (str, tuple)):
            yield from (constant,) if isinstance(constant, str) else constant
