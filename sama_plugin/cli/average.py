"""The weighted mean of adapters of one lineage, for example of a training's start and its end.

    sama average out/first/sama_adapter out/second/sama_adapter --shares 0.3 0.7 --to DIR

A long fine-tuning gains on what it saw and loses on what it did not; the mean often keeps both.
Choose the shares on data that is neither trained on nor reported.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapters", nargs="+", type=Path, help="sama_adapter folders, two or more")
    parser.add_argument(
        "--shares", nargs="+", type=float, metavar="X", help="sum 1; by default all equal"
    )
    parser.add_argument("--to", required=True, metavar="DIR", type=Path, help="a new folder")


def run(args: argparse.Namespace) -> int:
    from sama_plugin.errors import OutputError
    from sama_plugin.model.mean import mean_adapter

    if args.to.exists():
        raise OutputError(f"{args.to} exists already; name a new folder")
    count = len(args.adapters)
    folder = mean_adapter(args.adapters, args.shares or [1 / count] * count, args.to)
    print(f"written to {folder}: `sama chat --model HOST --adapter {folder}`")
    return 0
