"""Teach the packaged mini host to refer and to ground, score it, talk with it, and look at it.

sama demo
sama demo --video holiday.mp4 --out out/demo
sama demo --steps 20 --clips 20 --scored 4     # a quick look at the machinery
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `sama demo`."""
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="output folder")
    parser.add_argument("--video", type=Path, help="a real video; else one of $SAMA_DATA/videos")
    parser.add_argument("--steps", type=int, help="training steps")
    parser.add_argument("--clips", type=int, help="training clips")
    parser.add_argument("--scored", type=int, help="held-out clips of each evaluation")
    parser.add_argument("--workers", type=int, help="processes that score, one thread each")
    parser.add_argument("--seed", type=int, help="of training")


def run(args: argparse.Namespace) -> int:
    """Run it and say where the page is."""
    # one bar for training is enough; worker processes inherit this
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from sama_plugin.miniworld.demo import DemoOptions, run_demo

    given = {name: value for name, value in vars(args).items() if value is not None}
    page = run_demo(DemoOptions(**given))
    print(f"open {page}\nsama chat --model mini --adapter {args.out} --video VIDEO")
    return 0
