"""`sama eval BENCHMARK`: score a host with an adapter on held-out cases.

sama eval mini                       # the packaged mini and its adapter, a few hundred cases
sama eval mini --full --json         # at least 2,000 cases of each number
sama eval mini --adapter out/demo
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sama_plugin.atomic import atomic_path
from sama_plugin.errors import ConfigError
from sama_plugin.registry import Registry

BENCHMARKS = Registry("benchmarks", {"mini": "sama_plugin.miniworld.evaluate:evaluate"})
"""Name to a function (model, adapter, clips, workers=, per_task=, progress=) -> report."""

QUICK_CLIPS, FULL_CLIPS = 45, 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the verb."""
    parser.add_argument("benchmark", help="benchmark name, e.g. mini")
    parser.add_argument("--model", default="mini", help="packaged model or host checkpoint folder")
    parser.add_argument("--adapter", type=Path, help="sama_adapter folder (default: the packaged)")
    parser.add_argument("--clips", type=int, help=f"held-out clips (default {QUICK_CLIPS})")
    parser.add_argument(
        "--full", action="store_true", help=f"{FULL_CLIPS} clips: n >= 2,000 for each number"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--out", type=Path, help="also write the report to this file")


def run(args: argparse.Namespace) -> int:
    """Score and print."""
    clips = args.clips if args.clips is not None else FULL_CLIPS if args.full else QUICK_CLIPS
    if clips < 1 or args.workers < 1:
        raise ConfigError(f"--clips is {clips} and --workers {args.workers}; give 1 or more")
    benchmark = BENCHMARKS.get(args.benchmark)
    report = benchmark(
        args.model, args.adapter, clips, workers=min(args.workers, clips), progress=_progress
    )
    text = json.dumps(report, indent=2)
    if args.out:
        with atomic_path(args.out) as temporary:
            temporary.write_text(text + "\n")
    print(text if args.json else _table(report))
    return 0


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() or done == total:
        end = "\n" if done == total else "\r"
        print(f"  scored {done} of {total} clips", file=sys.stderr, end=end, flush=True)


def _table(report: dict) -> str:
    rows = [f"{'':24}{'value':>8}{'95 %':>18}{'n':>8}"]
    for metric, score in report["scores"].items():
        interval = f"{score['low']:.3f} - {score['high']:.3f}"
        rows.append(f"{metric:24}{score['value']:8.3f}{interval:>18}{score['n']:8}")
    rows.append(f"segmenter encodes a frame: {report['encodes_per_frame']:g}")
    return "\n".join(rows)
