"""From the bare tree to a script that trains two senses.

Before the script is imported: names that newer libraries lost (`shims.py`). When it is imported:
its five globals that matter are changed, each a `Patch` with the code it was written against
(`assets/patches/internvl_chat.json`). The rest happens inside `build_datasets`, the one call of the
script that sees tokenizer, data arguments and model together, after resizing and before freezing:
the model is attached, its datasets move one class further.
"""

from __future__ import annotations

import importlib
import os
import socket
from types import ModuleType
from typing import Any, Callable

from sama_plugin.bridges.internvl_chat.claims import tree_of
from sama_plugin.bridges.internvl_chat.patches import known_patches
from sama_plugin.bridges.internvl_chat.prepare import Preparation
from sama_plugin.errors import PluginError
from sama_plugin.hosts.internvl_chat import shims
from sama_plugin.logs import get_logger
from sama_plugin.model.config import SamaConfig
from sama_plugin.patching.launch import LaunchOptions
from sama_plugin.patching.ledger import Ledger
from sama_plugin.patching.patch import apply
from sama_plugin.settings import load_yaml

log = get_logger("bridges")
COMPAT = ("auto", "off")


def install(ledger: Ledger, options: LaunchOptions) -> Callable[[ModuleType], None]:
    """Make the tree importable; returns what changes the imported script.

    Raises:
        PluginError: a flag that makes no sense here, or code that was never read.
    """
    if options.compat not in COMPAT:
        raise PluginError(f"--plugin.compat {options.compat}: one of {', '.join(COMPAT)}")
    config = load_yaml(SamaConfig, options.config or os.devnull, options.set)[0]
    preparation = Preparation(config, options.data, options.root, ledger)
    if options.compat == "auto":
        apply(shims.library_shims(), ledger)
        standing = shims.placeholders()
        for package in standing.__enter__():
            ledger.note(package, "not installed; names stand in for it while the tree is imported")

    def finish(script: ModuleType) -> None:
        if options.compat == "auto":
            standing.__exit__(None, None, None)
            apply(shims.tree_shims(), ledger)
        tree = tree_of(_root(script))
        patches = known_patches(script, tree, preparation, options)
        apply(patches, ledger, allow=options.allow_unverified)

    return finish


def import_host(module: str) -> ModuleType:
    """A module of the tree, in a process that has not made it importable yet (spawned workers)."""
    apply(shims.library_shims(), Ledger())
    with shims.placeholders():
        return importlib.import_module(module)


def alone_or_without_gpu(original: Callable[..., Any]) -> Callable[..., Any]:
    """The tree's `init_dist`, for one process that nobody launched and for machines without CUDA,
    which it cannot start on.
    """

    def init_dist(launcher: str, backend: str = "nccl", **kwargs: Any) -> Any:
        import torch
        from torch import distributed

        if "RANK" not in os.environ and launcher != "mpi" and "SLURM_PROCID" not in os.environ:
            launcher = "pytorch"
            _alone()
        if torch.cuda.is_available():
            return original(launcher, backend=backend, **kwargs)
        if torch.multiprocessing.get_start_method(allow_none=True) is None:
            torch.multiprocessing.set_start_method("spawn")
        log.warning("no CUDA: processes meet over gloo instead of %s", backend)
        if not distributed.is_initialized():
            distributed.init_process_group("gloo")

    return init_dist


def _alone() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": port}
    for name, value in {**alone, "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, str(value))


def _root(script: ModuleType) -> Any:
    from pathlib import Path

    return Path(script.__file__).resolve().parents[len(script.__name__.split(".")) - 1]
