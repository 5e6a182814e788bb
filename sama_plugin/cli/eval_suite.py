"""The part of `sama eval` that runs a benchmark with a data file: flags to `eval.harness`.

The model is loaded only if a case is still unanswered, so that scoring again (another judge,
another similarity) needs no GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Iterator, Protocol, Sequence

from sama_plugin.errors import ConfigError
from sama_plugin.eval import harness, published, report
from sama_plugin.eval.asking import Prediction, answer_cases
from sama_plugin.eval.benchmarks import SUITES, Means, Selection
from sama_plugin.eval.cases import Case
from sama_plugin.eval.hashes import files_hash, path_hash
from sama_plugin.eval.judge import Judge, JudgeConfig, NoJudge
from sama_plugin.eval.page import PAGE, write_page
from sama_plugin.eval.phrases import open_similarity
from sama_plugin.eval.ranks import Rank, of_this_process


def run_suite(args: argparse.Namespace) -> int:
    """Answer, score, print; the exit code."""
    if args.data is None:
        raise ConfigError(f"{args.benchmark} needs --data, its annotation file")
    for place, file in enumerate(args.data):
        if not file.is_file():
            raise ConfigError(f"--data {file}: no such file")
        if file in args.data[:place]:
            raise ConfigError(f"--data {file} is given twice; its cases would count twice")
    out = args.out or Path("out/eval") / args.benchmark
    root = args.root if args.root is not None else args.data[0].parent
    return _run(args, args.benchmark, args.data, root, out)


def run_twin(args: argparse.Namespace, twin: Twin, clips: int) -> int:
    """The same on files that are made on the spot."""
    if args.data is not None or args.root is not None:
        raise ConfigError(f"{args.benchmark} makes its own data; leave out --data and --root")
    if clips < 1:
        raise ConfigError(f"--clips is {clips}; give 1 or more")
    out = args.out or Path("out/eval") / args.benchmark
    rank = of_this_process()
    folder = out / "world"
    if rank.first:
        twin.make(folder, clips)
    rank.meet()
    return _run(args, twin.suite, [folder / twin.file], folder / twin.root, out)


class Twin(Protocol):
    """A benchmark on made-up files: `make` writes `file` and its media below a folder."""

    suite: str
    file: str
    root: str

    def make(self, folder: Path, clips: int) -> None:
        """Write the files of so many clips; the same ones every time."""


def _run(args: argparse.Namespace, suite: str, data: Sequence[Path], root: Path, out: Path) -> int:
    if args.limit < 0 or args.max_new_tokens < 1 or args.together < 1:
        raise ConfigError(
            f"--limit is {args.limit}, --max-new-tokens {args.max_new_tokens} and --together "
            f"{args.together}; not negative, and at least 1"
        )
    rank = of_this_process()
    selection = Selection(args.mode, args.split, args.history)
    material = harness.read_material(suite, data, root, selection=selection, limit=args.limit)
    settings = _settings(args, suite, data, material)
    if suite == args.benchmark:  # a twin's media are made from its data, wherever that lies
        settings["root"] = str(root.resolve())
    answer = _Answerer(args, SUITES.get(suite).MASKS, rank)
    harness.answer_missing(material, answer, out, settings, _progress, rank)
    rank.meet()
    if rank.first:
        means = Means(_judge(args, out), open_similarity(args.similarity), args.similarity)
        predictions = harness.read_predictions(material, out, settings)
        summary = harness.score(suite, material, predictions, means, out, settings)
        write_page(summary, material, predictions, out)
        _print(args, summary, out)
    return 0


class _Answerer:
    """Loads the model for the first question."""

    def __init__(self, args: argparse.Namespace, masks: bool, rank: Rank):
        self.args, self.masks, self.rank = args, masks, rank
        self._sama: Any = None

    def __call__(self, cases: Sequence[Case]) -> Iterator[Prediction]:
        if self._sama is None:
            from sama_plugin.infer.load import fold_lora, load_sama

            self._sama = fold_lora(
                load_sama(self.args.model, self.args.adapter, self.rank.device())
            )
        yield from answer_cases(
            self._sama,
            cases,
            masks=self.masks,
            max_new_tokens=self.args.max_new_tokens,
            together=self.args.together,
        )


def _settings(
    args: argparse.Namespace, suite: str, data: Sequence[Path], material: harness.Material
) -> dict[str, Any]:
    """What the answers depend on; a resumed run must have the same."""
    from sama_plugin.infer.load import find_adapter_folder

    return {
        "benchmark": args.benchmark,
        "suite": suite,
        "model": args.model,
        "adapter_sha256": path_hash(find_adapter_folder(args.model, args.adapter)),
        "data_sha256": files_hash(data),
        "beside_sha256": material.beside,
        "mode": args.mode,
        "split": args.split,
        "history": args.history,
        "limit": args.limit,
        "max_new_tokens": args.max_new_tokens,
        "together": args.together,
    }


def _judge(args: argparse.Namespace, out: Path) -> Judge:
    if args.judge == "none":
        return NoJudge()
    from sama_plugin.eval.judge_cache import JudgeCache
    from sama_plugin.eval.judge_http import HttpJudge

    config = JudgeConfig(
        args.judge,
        args.judge_model,
        temperature=args.judge_temperature,
        key_variable=args.judge_key,
        price_in=args.judge_price_in,
        price_out=args.judge_price_out,
        budget_tokens=args.judge_budget_tokens,
        budget_cost=args.judge_budget_cost,
    )
    return HttpJudge(config, JudgeCache(out / "judge.jsonl"))


def _print(args: argparse.Namespace, summary: dict[str, Any], out: Path) -> None:
    if args.json:
        print(json.dumps(summary, indent=2))
        return
    print(report.text(summary))
    file = args.published or published.default_file()
    twin = summary["settings"]["suite"] != args.benchmark  # others' numbers are of real data
    if file is not None and not twin:
        print(published.table(published.load_published(file), summary["published"]))
    print(f"results: {out} (open {out / PAGE})")


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() or done == total:
        end = "\n" if done == total else "\r"
        print(f"  answered {done} of {total} cases", file=sys.stderr, end=end, flush=True)
