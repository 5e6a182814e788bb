"""What `internvl_chat` needs to run beside libraries that are newer than its pins, in one place.

- `PLACEHOLDERS`: the tree imports flash_attn (gpt_oss: mmengine too) where nothing calls it.
  Remove when the tree imports them lazily.
- `ATTENTION`: attention class tables of transformers' Llama and Qwen2, gone in 4.48. Remove when
  the tree's pin rises.
- `SAMPLING`: sampler names in `transformers.trainer`, gone in 5. Remove when the pin rises.
- `seed_worker`: a function of one argument, of three since 4.55. Remove when the pin rises.
- `LegacyArguments`: flags that TrainingArguments lost in 4.46 and 5. Remove when recipes change.
- defaults: saving asks for a default configuration since 4.50. Remove when fixed upstream.
- `post_init`: transformers 5 loads only classes that call it. Remove when fixed upstream.
- own language models: InternLM2 and Phi3 come with the tree, and their code does not run on
  transformers 5 (it reads `rope_scaling["type"]`). Refused in words. Remove when fixed upstream.

Each is a `Patch` that adds a missing name, so it shows in the ledger, is undone, and does nothing
where the name exists. Used by `bridges/internvl_chat`, also in spawned workers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
from types import ModuleType
from typing import Any, Iterator, Optional

import transformers
from transformers import TrainingArguments

from sama_plugin.errors import PluginError
from sama_plugin.patching.patch import Patch

PLACEHOLDERS = {
    "flash_attn": ("flash_attn_func",),
    "flash_attn.flash_attn_interface": (
        "flash_attn_func",
        "flash_attn_varlen_func",
        "flash_attn_varlen_kvpacked_func",
        "_flash_attn_backward",
    ),
    "flash_attn.bert_padding": ("index_first_axis", "pad_input", "unpad_input"),
    "mmengine": (),
    "mmengine.fileio": (),
    "mmengine.fileio.backends": (),
    "mmengine.fileio.backends.base": ("BaseStorageBackend",),
}
"""Package to the names imported from it. What the tree tries to import and can do without is left
out on purpose: it then takes its own way without it."""
ATTENTION = {
    "transformers.models.llama.modeling_llama": {
        "LLAMA_ATTENTION_CLASSES": dict,
        "LlamaFlashAttention2": type,
    },
    "transformers.models.qwen2.modeling_qwen2": {
        "QWEN2_ATTENTION_CLASSES": dict,
        "Qwen2FlashAttention2": type,
    },
}
SAMPLING = ("LengthGroupedSampler", "RandomSampler", "has_length")
_OWN_SAMPLERS = ("transformers.trainer_pt_utils", "torch.utils.data", "transformers.trainer_utils")


def library_shims() -> list[Patch]:
    """Names that the installed transformers has no more, to be added before the import."""
    wanted = [
        (module, name, _blank(name, kind))
        for module, names in ATTENTION.items()
        for name, kind in names.items()
    ]
    wanted += [("transformers.trainer", name, _sampler(name)) for name in SAMPLING]
    return [
        Patch(
            f"shim.{name}",
            f"{module}:{name}",
            f"transformers {transformers.__version__} has no such name; the tree imports it",
            lambda _, value=value: value,
            kind="add",
        )
        for module, name, value in wanted
        if value is not None and not hasattr(importlib.import_module(module), name)
    ]


def tree_shims(package: str = "internvl") -> list[Patch]:
    """What the imported tree does that newer libraries no longer take."""
    loader, model = f"{package}.patch.train_dataloader_patch", f"{package}.model.internvl_chat"
    patches = []
    if _arguments_of(getattr(transformers.trainer, "seed_worker", None)) > 1:
        why = f"transformers {transformers.__version__} calls it with more than a worker's number"
        patches.append(
            Patch(
                "shim.seed_worker", f"{loader}:seed_worker", why, lambda _: seed_worker, "replace"
            )
        )
    chat = importlib.import_module(model)
    if hasattr(transformers.PretrainedConfig, "has_no_defaults_at_init"):
        target = f"{model}:InternVLChatConfig.has_no_defaults_at_init"
        why = "saving asks for a default configuration, which this class cannot make"
        patches.append(Patch("shim.defaults", target, why, lambda _: True, "replace"))
    if _never_finishes(chat.InternVLChatModel):
        target = f"{model}:InternVLChatModel.__init__"
        why = "transformers 5 loads only classes that call post_init"
        patches.append(Patch("shim.post_init", target, why, _finishing))
    if _modern() and importlib.util.find_spec(f"{package}.model.internlm2") is not None:
        target = f"{model}:InternVLChatModel.__init__"
        why = "InternLM2 and Phi3 are the tree's own code, which transformers 5 does not run"
        patches.append(Patch("shim.own_language", target, why, _refusing_own_languages))
    return patches


@contextlib.contextmanager
def placeholders() -> Iterator[list[str]]:
    """Inside, packages that are not installed can be imported by the names the tree asks for; a
    call of one of these names says what to install. Gives the packages that were stood in for.
    """
    tops = {name.split(".")[0] for name in PLACEHOLDERS}
    missing = sorted(top for top in tops if importlib.util.find_spec(top) is None)
    made = {
        name: _placeholder(name, names)
        for name, names in PLACEHOLDERS.items()
        if name.split(".")[0] in missing
    }
    for name, module in made.items():
        outer, _, inner = name.rpartition(".")
        if outer:
            setattr(made[outer], inner, module)
    sys.modules.update(made)
    try:
        yield missing
    finally:
        for name in made:
            sys.modules.pop(name, None)


def seed_worker(worker: int) -> None:
    """Worker seeds as transformers set them before 4.55; a module-level name, so spawned workers
    find it.
    """
    import torch

    transformers.set_seed(torch.initial_seed() % 2**32)


_LEGACY = {  # field: (type, default, the field that took its place)
    "overwrite_output_dir": (bool, False, None),
    "evaluation_strategy": (str, "no", "eval_strategy"),
    "warmup_ratio": (float, 0.0, "warmup_steps"),
    "group_by_length": (bool, False, None),
    "save_safetensors": (bool, True, None),
    "logging_dir": (Optional[str], None, None),
}
_LOST = {
    name: entry
    for name, entry in _LEGACY.items()
    if name not in {field.name for field in dataclasses.fields(TrainingArguments)}
}


def _forwarded(self: Any) -> None:
    for name, (_, default, successor) in _LOST.items():
        given = getattr(self, name)
        if successor is not None and given != default:
            setattr(self, successor, given)
    TrainingArguments.__post_init__(self)


LegacyArguments = dataclasses.make_dataclass(
    "LegacyArguments",
    [
        (name, kind, dataclasses.field(default=default))
        for name, (kind, default, _) in _LOST.items()
    ],
    bases=(TrainingArguments,),
    namespace={"__post_init__": _forwarded, "__module__": __name__},
)
"""TrainingArguments with the fields that recipes still set; a name of this module, because it is
pickled into checkpoints."""
LOST_ARGUMENTS = tuple(_LOST)


def _blank(name: str, kind: type) -> Any:
    return (
        {} if kind is dict else type(name, (), {"__doc__": "Stands in for a class that is gone."})
    )


def _sampler(name: str) -> Any:
    for module in _OWN_SAMPLERS:
        found = getattr(importlib.import_module(module), name, None)
        if found is not None:
            return found
    return _blank(name, type)


def _placeholder(name: str, names: tuple[str, ...]) -> ModuleType:
    module = ModuleType(name, f"Stands in for {name} while the host is imported.")
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    module.__version__ = "2.8.2"  # the gpt_oss tree's pin; both trees compare it at import
    for one in names:
        missing = functools.partial(_not_installed, f"{name}.{one}")
        setattr(module, one, type(one, (), {}) if one[0].isupper() else missing)
    return module


def _not_installed(name: str, *args: Any, **kwargs: Any) -> None:
    raise PluginError(
        f"{name} was called, but {name.split('.')[0]} is not installed; install it, or leave out "
        "what needs it (--plugin.attention flash_attention_2)"
    )


def _arguments_of(function: Any) -> int:
    return function.__code__.co_argcount if function is not None else 1


def _never_finishes(model: type) -> bool:
    return _modern() and "post_init" not in inspect.unwrap(model.__init__).__code__.co_names


def _modern() -> bool:
    return int(transformers.__version__.split(".")[0]) >= 5


def _refusing_own_languages(original: Any) -> Any:
    @functools.wraps(original)
    def __init__(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        language = type(config.llm_config)
        if language.__module__.startswith(type(self).__module__.split(".")[0] + "."):
            raise PluginError(
                f"{config.llm_config.architectures[0]}: the tree's own code of this language model "
                f"does not run on transformers {transformers.__version__}; install what the tree "
                "pins (transformers 4.37.2, peft 0.10), or bring the checkpoint to the native "
                "class with `sama import`"
            )
        original(self, config, *args, **kwargs)

    return __init__


def _finishing(original: Any) -> Any:
    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.post_init()

    return __init__
