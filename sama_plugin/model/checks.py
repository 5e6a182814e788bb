"""What `sama doctor` says about a `sama_adapter/` folder, without loading a host.

Only headers of the tensor files are read: they say whether a file is whole, and what is in it.
Whether a checkpoint also fits a host is `train/checks.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from sama_plugin.dialog.tokens import NEW_TOKENS
from sama_plugin.errors import CheckpointError
from sama_plugin.model.checkpoint import LORA, MODULES, read_description
from sama_plugin.patching.checks import Check


def checkpoint_checks(folder: Path) -> list[Check]:
    """What a checkpoint was trained for, and whether its files are whole."""
    try:
        described = read_description(folder)
        return [*_described(described, folder), *_stored(described, folder)]
    except CheckpointError as error:
        return [Check("checkpoint", "error", str(error))]
    except (KeyError, TypeError, AttributeError) as error:
        found = f"{folder}/config.json is damaged: it has no usable {error}; copy it again"
        return [Check("checkpoint", "error", found)]


def _described(described: Mapping[str, Any], folder: Path) -> list[Check]:
    trained = f"{described['host']}, {described['family']} of width {described['width']}"
    tokens = described["tokens"]
    known = "" if tokens == list(NEW_TOKENS) else f"; this version has {', '.join(NEW_TOKENS)}"
    return [
        Check("checkpoint", "ok", f"{folder}, sama_plugin {described['plugin_version']}"),
        Check("trained for", "ok", trained),
        Check("tokens", "error" if known else "ok", ", ".join(tokens) + known),
        Check("segmenter", "ok", described["segmenter"]),
    ]


def _stored(described: Mapping[str, Any], folder: Path) -> list[Check]:
    modules = _names(folder / MODULES)
    checks = [Check("plugin modules", "ok", f"{len(modules)} tensors in {MODULES}")]
    if not described["lora"]:
        return [*checks, Check("LoRA", "ok", "none")]
    lora, settings = _names(folder / LORA), described["settings"]["lora"]
    layers = {name.rpartition(".")[0] for name in lora}
    halves = sorted(name for name in layers if {f"{name}.A", f"{name}.B"} - set(lora))
    found = f"r={settings['r']} on {', '.join(settings['targets'])}: {len(layers)} layers"
    if halves or not layers:
        found += f"; half of a pair is missing: {', '.join(halves[:3])}" if halves else "; empty"
    return [*checks, Check("LoRA", "error" if halves or not layers else "ok", found)]


def _names(path: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            return list(stored.keys())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is missing or damaged ({error}); copy the checkpoint again"
        ) from error
