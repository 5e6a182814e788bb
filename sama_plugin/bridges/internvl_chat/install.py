"""From the bare tree to a script that trains two senses.

When the script first imports something of its tree: names that newer libraries lost (`shims.py`),
so before its first line nothing of torch or transformers is imported. When it is imported: its five
globals that matter are changed, each a `Patch` with the code it was written against
(`assets/patches/internvl_chat.json`). The rest happens inside `build_datasets`, the one call of the
script that sees tokenizer, data arguments and model together, after resizing and before freezing:
the model is attached, its datasets move one class further.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import socket
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

from sama_plugin.bridges.internvl_chat.claims import SCRIPTS, tree_of
from sama_plugin.bridges.internvl_chat.patches import known_patches
from sama_plugin.errors import PluginError
from sama_plugin.logs import get_logger
from sama_plugin.model.config import SamaConfig
from sama_plugin.patching.import_hooks import before_import
from sama_plugin.patching.launch import LaunchOptions
from sama_plugin.patching.ledger import Ledger
from sama_plugin.patching.patch import apply
from sama_plugin.settings import load_yaml

log = get_logger("bridges")
COMPAT = ("auto", "off")


def install(ledger: Ledger, options: LaunchOptions) -> Callable[[ModuleType], None]:
    """Make the tree importable once it is imported; returns what changes the imported script.

    Raises:
        PluginError: a flag that makes no sense here, or code that was never read.
    """
    if options.compat not in COMPAT:
        raise PluginError(f"--plugin.compat {options.compat}: one of {', '.join(COMPAT)}")
    if options.attention.startswith("flash") and importlib.util.find_spec("flash_attn") is None:
        raise PluginError(
            f"--plugin.attention {options.attention}: flash_attn is not installed; install it, or "
            "leave the flag out (then sdpa is taken, eager where the language model is the tree's "
            "own code)"
        )
    if options.data is not None and not os.path.isfile(options.data):
        raise PluginError(f"--plugin.data {options.data}: no such file")
    config = load_yaml(SamaConfig, options.config, options.set)[0]
    standing = ledger.hold(contextlib.ExitStack())  # placeholders, while the script is imported
    if options.compat == "auto":
        ledger.hold(before_import(_in_the_tree, lambda: _make_importable(ledger, standing)))

    def finish(script: ModuleType) -> None:
        from sama_plugin.bridges.internvl_chat.prepare import Preparation
        from sama_plugin.hosts.internvl_chat import shims

        standing.close()
        if options.compat == "auto":
            apply(shims.tree_shims(), ledger)
        preparation = Preparation(config, options.data, options.root, ledger)
        patches = known_patches(script, tree_of(_root(script)), preparation, options)
        apply(patches, ledger, allow=options.allow_unverified)

    return finish


def _in_the_tree(module: str) -> bool:
    """Whether `module` is of the tree, and neither a script of it nor a package around one."""
    return module.startswith("internvl.") and module not in (
        "internvl.train",
        *(f"internvl.train.{script}" for script in SCRIPTS),
    )


def _make_importable(ledger: Ledger, standing: contextlib.ExitStack) -> None:
    """Library shims first: they import transformers, which must not see the placeholders."""
    from sama_plugin.hosts.internvl_chat import shims

    apply(shims.library_shims(), ledger)
    for package in standing.enter_context(shims.placeholders()):
        ledger.note(package, "not installed; names stand in for it while the tree is imported")


def import_host(module: str) -> ModuleType:
    """A module of the tree, in a process that has not made it importable yet (spawned workers)."""
    from sama_plugin.hosts.internvl_chat import shims

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


def _root(script: ModuleType) -> Path:
    return Path(script.__file__).resolve().parents[len(script.__name__.split(".")) - 1]
