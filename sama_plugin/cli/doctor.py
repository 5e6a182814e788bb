"""Check the installation, and a script, a checkpoint or a host.

    sama doctor                            the packaged mini host
    sama doctor ./InternVL3-1B-hf --json   a host: adapter, grid, token ids, LoRA
    sama doctor internvl/train/x.py        a script: its bridge, each patch and its state
    sama doctor out/run/sama_adapter       what a checkpoint was trained for

Exit code 0: all is well; 1: something optional is missing or was never verified; 2: something does
not work.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from sama_plugin.errors import SamaError
from sama_plugin.patching.checks import Check, environment_checks
from sama_plugin.registry import Registry

CODES = {"ok": 0, "warning": 1, "error": 2}
SCRIPT_CHECKS = Registry(
    "script_checks",
    {"internvl_chat": "sama_plugin.bridges.internvl_chat.checks:script_checks"},
)
"""Bridge name to a function from a `Target` to checks."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", help="script, checkpoint folder, or host")
    parser.add_argument("--host", default="mini", help="folder of a host, `mini` or `tiny`")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    checks = environment_checks()
    if any(check.state == "error" for check in checks):
        checks.append(Check("host", "error", "not looked at; install what is missing first"))
    else:
        from sama_plugin.train.checks import device_checks

        checks += [*device_checks(), *_checks_of(args.what or args.host)]
    if args.json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{check.state:<7}  {check.name:<{width}}  {check.found}")
    return max(CODES[check.state] for check in checks)


def _checks_of(what: str) -> list[Check]:
    folder = Path(what)
    if (folder / "sama_adapter").is_dir() or (folder / "modules.safetensors").is_file():
        return _checkpoint_checks(folder)
    if what.endswith(".py"):
        return _script_checks(what)
    from sama_plugin.train.checks import host_checks

    return host_checks(what)


def _checkpoint_checks(folder: Path) -> list[Check]:
    inside = folder / "sama_adapter"
    folder = inside if inside.is_dir() else folder
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        lora = described["settings"]["lora"]
        rank = f"r={lora['r']} on {', '.join(lora['targets'])}" if described["lora"] else "none"
        return [
            Check("checkpoint", "ok", f"{folder}, sama_plugin {described['plugin_version']}"),
            Check(
                "trained for",
                "ok",
                f"{described['host']}, {described['family']} of width {described['width']}",
            ),
            Check("tokens", "ok", ", ".join(described["tokens"])),
            Check("segmenter", "ok", described["segmenter"]),
            Check("LoRA", "ok", rank),
        ]
    except (OSError, ValueError, KeyError) as error:
        return [Check("checkpoint", "error", f"{folder}/config.json cannot be read: {error!r}")]


def _script_checks(script: str) -> list[Check]:
    from sama_plugin.patching.importing import locate
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
