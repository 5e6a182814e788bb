"""From a name or a path to an attached host that can hold a conversation.

Used by `sama chat`, `sama eval` and the demo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Union

from sama_plugin.assets import asset
from sama_plugin.errors import CheckpointError, ConfigError, SamaError
from sama_plugin.hosts.damage import UNLOADABLE, load_whole
from sama_plugin.hosts.packaged import PACKAGED_HOSTS
from sama_plugin.hosts.precision import dtype_option
from sama_plugin.hosts.remote_code.load import brings_its_code
from sama_plugin.hosts.remote_code.load import load as load_remote
from sama_plugin.hosts.tokenizer import load_tokenizer
from sama_plugin.model.attach import SamaModel, attach
from sama_plugin.model.checkpoint import FOLDER, load_adapter, read_config
from sama_plugin.registry import nearest

PACKAGED_ADAPTERS = {"mini": "mini/adapter"}
"""Asset that holds the trained adapter of a packaged host."""


def load_host(model: str) -> tuple[Any, Any]:
    """(model, tokenizer) of a packaged name, a folder with a transformers checkpoint, or a hub id.

    Raises:
        ConfigError: it is none of these.
    """
    if model in PACKAGED_HOSTS.names():
        return PACKAGED_HOSTS.get(model)()
    if brings_its_code(model):
        host, tokenizer = load_remote(model, torch_dtype="auto")
        return host.eval(), tokenizer
    try:
        tokenizer = load_tokenizer(model)
        host = load_whole(model, **dtype_option("auto"))
    except UNLOADABLE as error:
        raise ConfigError(
            f"--model {model!r} is neither a packaged model ({', '.join(PACKAGED_HOSTS.names())}) "
            f"nor a checkpoint that transformers can load: {error}"
        ) from error
    return host.eval(), tokenizer


def load_sama(
    model: str, adapter: Optional[Union[str, Path]] = None, device: Optional[str] = None
) -> SamaModel:
    """An attached host with a trained adapter.

    Args:
        adapter: a `sama_adapter` folder, or a training output folder that holds one; by default the
            one in the folder `model`, or packaged with it.
        device: "cpu", "cuda", ...; by default a GPU if there is one.
    """
    folder = find_adapter_folder(model, adapter)
    host, tokenizer = load_host(model)
    _move(host, device or _default_device())
    sama = attach(host, tokenizer, read_config(folder))
    load_adapter(sama, folder)
    host.eval()
    return sama


def fold_lora(sama: SamaModel) -> SamaModel:
    """The same model with LoRA added into the layers it wraps: half the time a token where layers
    are small. Not for quantised hosts; PEFT's `unmerge` takes it back.
    """
    from peft.tuners.lora import LoraLayer

    for layer in sama.host.modules():
        if isinstance(layer, LoraLayer) and not layer.merged:
            layer.merge()
    return sama


def find_adapter_folder(model: str, adapter: Optional[Union[str, Path]] = None) -> Path:
    """The adapter folder that is meant; CheckpointError says where it was looked for."""
    if adapter is None and (Path(model) / FOLDER / "config.json").is_file():
        return Path(model) / FOLDER  # merged or exported
    if adapter is None:
        if model not in PACKAGED_ADAPTERS:
            raise CheckpointError(
                f"no adapter is packaged with model {model!r}{nearest(model, PACKAGED_ADAPTERS)}; "
                "pass --adapter FOLDER, the "
                "sama_adapter folder that training wrote"
            )
        try:
            return asset(PACKAGED_ADAPTERS[model])
        except SamaError as error:
            raise CheckpointError(
                f"the adapter of {model!r} is not part of this installation ({error}); train one "
                "with `sama demo` and pass --adapter out/demo"
            ) from error
    folder = Path(adapter)
    if (folder / FOLDER).is_dir():
        folder = folder / FOLDER
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no folder {folder}; an adapter is the {FOLDER} that training wrote, or the "
            "folder of the run"
        )
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is not a {FOLDER} folder: it has no config.json")
    return folder


def _move(host: Any, device: str) -> None:
    try:
        host.to(device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"the model cannot be put on device {device!r}: {reason}. Give cpu, or cuda where "
            "there is a free GPU"
        ) from error


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
