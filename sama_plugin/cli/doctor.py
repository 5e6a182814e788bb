"""Check the installation and a host.

    sama doctor                          the packaged mini host
    sama doctor --host ./InternVL3-1B-hf --json

Exit code 0: all is well; 1: something optional is missing; 2: something does not work.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

CODES = {"ok": 0, "warning": 1, "error": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="mini", help="folder of a host, `mini` or `tiny`")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    from sama_plugin.patching.checks import Check, environment_checks

    checks = environment_checks()
    if any(check.state == "error" for check in checks):
        checks.append(Check("host", "error", "not looked at; install what is missing first"))
    else:
        from sama_plugin.train.checks import device_checks, host_checks

        checks += [*device_checks(), *host_checks(args.host)]
    if args.json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{check.state:<7}  {check.name:<{width}}  {check.found}")
    return max(CODES[check.state] for check in checks)
