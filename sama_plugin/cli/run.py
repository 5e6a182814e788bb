"""Run an unmodified training script with the plugin.

    sama run SCRIPT.py --plugin sama --plugin.data FILE.jsonl --plugin.config FILE.yaml ...

The same as `python -m sama_plugin SCRIPT.py ...`; use that form under torchrun (`torchrun -m
sama_plugin SCRIPT.py ...`).
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        metavar="SCRIPT ...",
        help="a .py file or a dotted module, then its flags and --plugin flags",
    )


def run(args: argparse.Namespace) -> int:
    from sama_plugin.patching.launch import launch

    launch(args.rest)
    return 0
