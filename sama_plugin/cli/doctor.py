"""Check the installation, and a script, a checkpoint or a host.

    sama doctor                            the packaged mini host
    sama doctor ./InternVL3-1B-hf --json   a host: adapter, grid, token ids, LoRA
    sama doctor internvl/train/x.py        a script: its bridge, each patch and its state
    sama doctor out/run/sama_adapter       what a checkpoint was trained for, whether it is whole
    sama doctor out/run --host ./HOST      and whether it loads on that host

Exit code 0: all is well; 1: something optional is missing or was never verified; 2: something does
not work.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import Optional

from sama_plugin.errors import PluginError, SamaError
from sama_plugin.patching.checks import Check, environment_checks
from sama_plugin.patching.importing import locate
from sama_plugin.registry import Registry

CODES = {"ok": 0, "warning": 1, "error": 2}
SCRIPT_CHECKS = Registry(
    "script_checks",
    {"internvl_chat": "sama_plugin.bridges.internvl_chat.checks:script_checks"},
)
"""Bridge name to a function from a `Target` to checks."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", help="script, checkpoint folder, or host")
    parser.add_argument(
        "--host", help="folder of a host, `mini` or `tiny`; beside a checkpoint: does it fit?"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list of checks")


def run(args: argparse.Namespace) -> int:
    with contextlib.redirect_stdout(sys.stderr):  # what is imported may print
        checks = environment_checks()
        if any(check.state == "error" for check in checks):
            checks.append(Check("host", "error", "not looked at; install what is missing first"))
        else:
            what = args.what or args.host or "mini"
            checks += _checks_of(what, args.host if args.what else None)
    if args.json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{check.state:<7}  {check.name:<{width}}  {check.found}")
    return max(CODES[check.state] for check in checks)


def _checks_of(what: str, host: Optional[str]) -> list[Check]:
    from sama_plugin.model.checkpoint import FOLDER, LORA, MODULES
    from sama_plugin.train.checks import device_checks, fit_checks, host_checks

    folder, checks = Path(what), device_checks()
    inside = folder / FOLDER
    if inside.is_dir() or any((folder / name).is_file() for name in (MODULES, LORA)):
        from sama_plugin.model.checks import checkpoint_checks

        folder = inside if inside.is_dir() else folder
        found = checkpoint_checks(folder)
        sound = all(check.state != "error" for check in found)
        return [*checks, *found, *(fit_checks(folder, host) if host and sound else [])]
    if _names_a_script(what):
        return [*checks, *_script_checks(what), *(host_checks(host) if host else [])]
    return [*checks, *host_checks(what)]


def _names_a_script(what: str) -> bool:
    """A file, or a dotted module name that can be found from here; hub ids have a slash."""
    if what.endswith(".py"):
        return True
    if "." not in what or "/" in what or Path(what).exists():
        return False
    with contextlib.suppress(PluginError):
        return locate(what).file is not None
    return False


def _script_checks(script: str) -> list[Check]:
    from sama_plugin.patching.launch import CLAIMS, choose_bridge

    try:
        target = locate(script)
        bridge = choose_bridge(target)
        reason = CLAIMS.get(bridge)(target) if bridge in CLAIMS.names() else "any Trainer script"
        found = [Check("script", "ok", f"{target.module}, bridge {bridge} ({reason})")]
        if bridge in SCRIPT_CHECKS.names():
            return found + SCRIPT_CHECKS.get(bridge)(target)
        wrapped = "transformers.Trainer.__init__ is wrapped; needs --plugin.data"
        return [*found, Check("patch", "ok", wrapped)]
    except SamaError as error:
        return [Check("script", "error", str(error))]
