"""`sama eval BENCHMARK`: score a host with an adapter on a benchmark.

sama eval mini                       # the packaged mini and its adapter, a few hundred cases
sama eval mini --full --json         # 500 clips: 478 to 2,500 cases of a number
sama eval mini --adapter out/demo
sama eval sama-bench-g --data sama_bench.json --model OpenGVLab/InternVL3-8B-hf --adapter out/8b
sama eval sama-bench-g --data mevis.json lvvis_?.json ref_youtube_vos_?.json VidSTG_?.json
sama eval videorefer-bench-q --data Q.json --mode multi --out out/q    # resumes what was begun
sama eval videorefer-bench-d --data D.json --judge http://host:8000/v1 --judge-model NAME
sama eval mini-sama-bench-g --json   # the same benchmark on the mini world: nothing to download
sama eval compare out/q out/q_other  # paired bootstrap of two runs
torchrun --nproc-per-node 8 -m sama_plugin eval ...   # videos are shared, results are one
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sama_plugin.atomic import atomic_path, check_file
from sama_plugin.errors import ConfigError
from sama_plugin.registry import Registry, nearest

BENCHMARKS = Registry("benchmarks", {"mini": "sama_plugin.miniworld.evaluate:evaluate"})
"""Name to a function (model, adapter, clips, workers=, per_task=, progress=) -> report."""

TWINS = Registry(
    "twins",
    {
        "mini-sama-bench-g": "sama_plugin.miniworld.benchmarks:SAMA_BENCH_G",
        "mini-sama-bench-c": "sama_plugin.miniworld.benchmarks:SAMA_BENCH_C",
        "mini-videorefer-bench-d": "sama_plugin.miniworld.benchmarks:VIDEOREFER_BENCH_D",
        "mini-videorefer-bench-q": "sama_plugin.miniworld.benchmarks:VIDEOREFER_BENCH_Q",
        "mini-rvos": "sama_plugin.miniworld.benchmarks:RVOS",
    },
)
"""Name to a `Twin`: a benchmark with a data file, on files that are made on the spot."""

COMPARE = "compare"
QUICK_CLIPS, FULL_CLIPS = 45, 500
TWIN_CLIPS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the verb."""
    parser.add_argument("benchmark", help="benchmark name, e.g. mini, or compare")
    parser.add_argument(
        "runs", nargs="*", default=[], type=Path, help="compare: the two result folders"
    )
    parser.add_argument("--model", default="mini", help="packaged model or host checkpoint folder")
    parser.add_argument("--adapter", type=Path, help="sama_adapter folder (default: the packaged)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--out", type=Path, help="mini: also write the report to this file; else: result folder"
    )
    mini = parser.add_argument_group("mini")
    mini.add_argument(
        "--clips", type=int, help=f"held-out clips (default {QUICK_CLIPS}, mini-*: {TWIN_CLIPS})"
    )
    mini.add_argument(
        "--full", action="store_true", help=f"{FULL_CLIPS} clips, those of the packaged scores"
    )
    mini.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    _add_suite_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Score and print."""
    if args.benchmark == COMPARE:
        return _compare(args)
    if args.runs:
        raise ConfigError(f"{args.runs[0]} belongs to no flag; only `sama eval compare` takes runs")
    from sama_plugin.eval.benchmarks import SUITES

    if args.benchmark in (*SUITES.names(), *TWINS.names()):
        from sama_plugin.cli.eval_suite import run_suite, run_twin

        if args.benchmark in SUITES.names():
            return run_suite(args)
        clips = TWIN_CLIPS if args.clips is None else args.clips
        return run_twin(args, TWINS.get(args.benchmark), clips)
    known = sorted({*BENCHMARKS.names(), *SUITES.names(), *TWINS.names(), COMPARE})
    if args.benchmark not in BENCHMARKS.names():
        raise ConfigError(
            f"unknown benchmark {args.benchmark!r}{nearest(args.benchmark, known)}; "
            f"known: {', '.join(known)}"
        )
    return _run_mini(args)


def _run_mini(args: argparse.Namespace) -> int:
    clips = args.clips if args.clips is not None else FULL_CLIPS if args.full else QUICK_CLIPS
    if clips < 1 or args.workers < 1:
        raise ConfigError(f"--clips is {clips} and --workers {args.workers}; give 1 or more")
    if args.out:
        check_file(args.out)
    benchmark = BENCHMARKS.get(args.benchmark)
    report = benchmark(
        args.model, args.adapter, clips, workers=min(args.workers, clips), progress=_progress
    )
    text = json.dumps(report, indent=2)
    print(text if args.json else _table(report))  # first: writing may fail
    if args.out:
        with atomic_path(args.out) as temporary:
            temporary.write_text(text + "\n")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from sama_plugin.eval.compare import compare, other_means, table
    from sama_plugin.eval.harness import finite

    if len(args.runs) != 2:
        raise ConfigError(f"compare takes two result folders, {len(args.runs)} given")
    rows = compare(*args.runs)
    for difference in other_means(*args.runs):
        print(f"  A and B differ in {difference}", file=sys.stderr)
    if args.json:
        found = [{**vars(row), "difference": finite(vars(row.difference))} for row in rows]
        print(json.dumps(found))
    else:
        print(f"A: {args.runs[0]}\nB: {args.runs[1]}\n{table(rows)}")
    return 0


def _add_suite_arguments(parser: argparse.ArgumentParser) -> None:
    from sama_plugin.eval.asking import TOGETHER

    suite = parser.add_argument_group("benchmarks with data files")
    suite.add_argument(
        "--data", type=Path, nargs="+", help="annotation file of the benchmark, or all its shards"
    )
    suite.add_argument("--root", type=Path, help="media folder (default: that of --data)")
    suite.add_argument(
        "--mode", choices=("single", "multi"), default="single", help="frames pointed at"
    )
    suite.add_argument("--split", default="", help="of files with several, e.g. testA")
    suite.add_argument(
        "--history", action="store_true", help="questions of a video are one conversation"
    )
    suite.add_argument("--limit", type=int, default=0, help="only the first cases (0: all)")
    suite.add_argument("--max-new-tokens", type=int, default=512, help="longest answer")
    suite.add_argument(
        "--together",
        type=int,
        default=TOGETHER,
        help="conversations about a clip in one batch (1: none)",
    )
    suite.add_argument(
        "--similarity", default="words", help="phrases of Recall: words, or a text encoder's path"
    )
    suite.add_argument("--published", type=Path, help="published numbers to print beside ours")
    judge = parser.add_argument_group("judge")
    judge.add_argument("--judge", default="none", help="OpenAI-compatible URL, or none")
    judge.add_argument("--judge-model", default="", help="pinned model name")
    judge.add_argument("--judge-temperature", type=float, default=0.0)
    judge.add_argument("--judge-key", default="OPENAI_API_KEY", help="variable of the API key")
    judge.add_argument("--judge-budget-tokens", type=int, default=0, help="stop there (0: never)")
    judge.add_argument("--judge-budget-cost", type=float, default=0.0, help="stop there (0: never)")
    judge.add_argument("--judge-price-in", type=float, default=0.0, help="per million tokens")
    judge.add_argument("--judge-price-out", type=float, default=0.0, help="per million tokens")


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
