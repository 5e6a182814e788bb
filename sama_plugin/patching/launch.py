"""`python -m sama_plugin SCRIPT.py --plugin sama [--plugin.data FILE.jsonl] ...`: an unmodified
script, with the plugin.

The plugin's flags are taken out of the command line (also out of the JSON file when the script's
only argument is one), a bridge changes the few host symbols it needs, the script is imported under
its own name and its `main()` called. Afterwards everything is put back. Flags travel on the command
line only, so every node of a job has them. The bridge is the one whose family claims the script,
else the one for plain Trainer scripts; this file knows no host.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator, Optional, Protocol, Sequence

from sama_plugin.errors import PluginError
from sama_plugin.patching.importing import Target, find_entry, imported, locate
from sama_plugin.patching.ledger import Ledger
from sama_plugin.registry import Registry, nearest

PLUGIN = "sama"
ANY_SCRIPT = "hf_trainer"
BRIDGES = Registry(
    "bridges",
    {
        ANY_SCRIPT: "sama_plugin.bridges.hf_trainer.install:install",
        "internvl_chat": "sama_plugin.bridges.internvl_chat.install:install",
    },
)
CLAIMS = Registry("claims", {"internvl_chat": "sama_plugin.bridges.internvl_chat.claims:claims"})
"""Bridge name to a light function from a `Target` to why the script is of its family, or None."""


@dataclass(frozen=True)
class LaunchOptions:
    """What `--plugin.<name> value` may say; everything else on the command line belongs to the
    script."""

    plugin: str = ""
    entry: str = "main"  # function of the script that is called
    bridge: str = ""  # kind of script; empty: the one that claims it
    data: Optional[str] = None  # our JSONL; replaces the script's dataset and collator
    root: Optional[str] = None  # folder that media paths in the JSONL are relative to
    config: Optional[str] = None  # YAML for SamaConfig
    set: tuple[str, ...] = ()  # "a.b=value" overrides of it, repeatable
    allow_unverified: tuple[str, ...] = ()  # patches that may meet code never read, repeatable
    compat: str = "auto"  # "off": no shims for library versions the host does not know
    attention: str = ""  # attention of a host that asks for flash-attn where there is none


LOCAL_RANK = "--local_rank="
REPEATABLE = ("set", "allow_unverified")


class Bridge(Protocol):
    """A function that changes a host family's symbols, through the ledger, before the script is
    imported; it returns what is left to do with the imported script, if anything.
    """

    def __call__(
        self, ledger: Ledger, options: LaunchOptions
    ) -> Optional[Callable[[ModuleType], None]]: ...


def launch(arguments: Sequence[str]) -> Any:
    """Run the script named first in `arguments`; returns what its entry function returns.

    Raises:
        PluginError: no script, no `--plugin sama`, an unknown `--plugin.*` flag, or a script
        without entry function.
    """
    options, rest = split_flags(script_first(arguments))
    if not rest or rest[0].startswith("-"):
        raise PluginError("name a script first: python -m sama_plugin SCRIPT.py --plugin sama ...")
    target = locate(rest[0])
    with _json_arguments(options, rest[1:]) as (options, rest):
        _check_plugin(options, rest)
        bridge = options.bridge or choose_bridge(target)
        with Ledger(announce=_say) as ledger, _arguments(str(target.file), rest):
            finish = BRIDGES.get(bridge)(ledger, options)
            with imported(target) as module:
                entry = find_entry(module, options.entry)
                if finish is not None:
                    finish(module)
                return entry()


def choose_bridge(target: Target) -> str:
    """The bridge whose family claims the script, or the one for any Trainer script.

    Raises:
        PluginError: several claim it.
    """
    reasons = {name: CLAIMS.get(name)(target) for name in CLAIMS.names()}
    found = {name: reason for name, reason in reasons.items() if reason}
    if len(found) > 1:
        said = "; ".join(f"{name}: {reason}" for name, reason in found.items())
        raise PluginError(
            f"several bridges claim {target.module} ({said}); say which: --plugin.bridge NAME"
        )
    return next(iter(found), ANY_SCRIPT)


def script_first(arguments: Sequence[str]) -> list[str]:
    """`deepspeed --module` puts its own `--local_rank=N` before the script; the script reads it."""
    before = [one for one in arguments[:1] if one.startswith(LOCAL_RANK)]
    rest = list(arguments[len(before) :])
    return [*rest[:1], *before, *rest[1:]]


def split_flags(arguments: Sequence[str]) -> tuple[LaunchOptions, list[str]]:
    """Take `--plugin NAME` and `--plugin.key value` (also `--plugin.key=value`) out of
    `arguments`."""
    options, rest, waiting = LaunchOptions(), [], list(arguments)
    while waiting:
        flag, separator, value = waiting.pop(0).partition("=")
        if flag != "--plugin" and not flag.startswith("--plugin."):
            rest.append(f"{flag}{separator}{value}")
            continue
        if not separator:
            if not waiting or waiting[0].startswith("--"):
                raise PluginError(f"{flag} needs a value")
            value = waiting.pop(0)
        options = _with(options, flag[2:], value)
    return options, rest


def _with(options: LaunchOptions, key: str, value: Any) -> LaunchOptions:
    name = "plugin" if key == "plugin" else key[len("plugin.") :]
    known = {field.name.replace("_", "-") for field in fields(LaunchOptions)}
    if name not in known or key == "plugin.plugin":
        flags = [f"plugin.{field}" for field in sorted(known - {"plugin"})]
        raise PluginError(f"unknown flag --{key}{nearest(key, flags)}; known: {', '.join(flags)}")
    name = name.replace("-", "_")
    added = [value] if isinstance(value, str) or name not in REPEATABLE else value
    if not isinstance(added, list) or not all(isinstance(one, str) for one in added):
        many = " or a list of texts" if name in REPEATABLE else ""
        raise PluginError(f"--{key}: {json.dumps(value)} should be a text{many}")
    return replace(
        options, **{name: (*getattr(options, name), *added) if name in REPEATABLE else value}
    )


@contextlib.contextmanager
def _json_arguments(
    options: LaunchOptions, rest: list[str]
) -> Iterator[tuple[LaunchOptions, list[str]]]:
    """Scripts that read one JSON file instead of flags: our keys are taken out of a copy of it."""
    if len(rest) != 1 or not rest[0].endswith(".json") or not Path(rest[0]).is_file():
        yield options, rest
        return
    values = _read_arguments(Path(rest[0]))
    ours = {
        key: value for key, value in values.items() if key == "plugin" or key.startswith("plugin.")
    }
    for key, value in ours.items():
        options = _with(options, key, value)
    with tempfile.TemporaryDirectory(prefix="sama-arguments-") as folder:
        copy = Path(folder) / Path(rest[0]).name
        copy.write_text(json.dumps({key: values[key] for key in values if key not in ours}))
        yield options, [str(copy)]


def _read_arguments(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PluginError(f"the script's arguments {file} are not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise PluginError(
            f"the script's arguments {file} hold a {type(values).__name__}; give one JSON object "
            'of flags, {"plugin": "sama", ...}'
        )
    return values


def _check_plugin(options: LaunchOptions, rest: Sequence[str]) -> None:
    if not options.plugin:
        flags = [one.partition("=")[0] for one in rest if one.startswith("--")]
        typed = get_close_matches("--plugin", flags, n=1)
        raise PluginError(
            f"the launcher was asked for no plugin{f' (found {typed[0]})' if typed else ''}; add "
            f"--plugin {PLUGIN}, or run the script with python itself"
        )
    if options.plugin != PLUGIN:
        near = nearest(options.plugin, (PLUGIN,))
        raise PluginError(f"unknown plugin {options.plugin!r}{near}; known: {PLUGIN}")


@contextlib.contextmanager
def _arguments(script: str, rest: Sequence[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, [script, *rest]
    try:
        yield
    finally:
        sys.argv = before


def _say(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        print(f"sama: {line}", file=sys.stderr, flush=True)
