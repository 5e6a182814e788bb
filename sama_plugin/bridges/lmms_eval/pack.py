"""Write a task folder for lmms-eval from a benchmark file.

    python -m sama_plugin.bridges.lmms_eval.pack sama-bench-g --data sama_bench.json --out tasks
    lmms-eval --include_path tasks --tasks sama_bench_g --model sama --model_args pretrained=mini

A folder holds `documents.jsonl`, the task's YAML, and `utils.py`, which names our functions. Media
are read where they lie: paths are absolute.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Optional, Sequence, Union

from sama_plugin.atomic import atomic_path
from sama_plugin.bridges.lmms_eval.task import document
from sama_plugin.data.formats.files import write_lines
from sama_plugin.errors import ConfigError
from sama_plugin.eval.benchmarks import Selection
from sama_plugin.eval.harness import read_material

_TEXTS = [(m, r) for m in ("METEOR", "CIDEr") for r in ("released", "corrected")]
_GROUNDED = [(m, r) for m in ("mIoU", "Recall") for r in ("released", "corrected")]
METRICS = {
    "sama-bench-g": [*_GROUNDED, *_TEXTS],
    "sama-bench-c": _TEXTS,
    "videorefer-bench-q": [("accuracy", "released"), ("accuracy", "corrected")],
    "videorefer-bench-d": [("METEOR", "offline"), ("CIDEr", "offline")],
    "gcg": [*_GROUNDED, ("AP50", "released"), *_TEXTS],
    "gcg-video": [*_GROUNDED, *_TEXTS],
}
"""The benchmarks that make a task, and what lmms-eval prints of them."""


def write_task(
    suite: str,
    data: Union[str, Path, Sequence[Union[str, Path]]],
    root: Union[str, Path],
    out: Union[str, Path],
    *,
    mode: str = "single",
    limit: int = 0,
) -> Path:
    """Write the folder of one task below `out`; returns it."""
    if suite not in METRICS:
        raise ConfigError(f"{suite!r} makes no task of lmms-eval; known: {', '.join(METRICS)}")
    material = read_material(suite, data, root, selection=Selection(mode), limit=limit)
    name = suite.replace("-", "_")
    folder = Path(out).resolve() / name
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "documents.jsonl", map(document, material.cases))
    for file, text in ((f"{name}.yaml", _yaml(name, suite, folder)), ("utils.py", _utils(suite))):
        with atomic_path(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return folder


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=sorted(METRICS))
    parser.add_argument("--data", type=Path, required=True, nargs="+", help="or all its shards")
    parser.add_argument("--root", type=Path, help="media folder (default: that of --data)")
    parser.add_argument("--out", type=Path, required=True, help="for lmms-eval's --include_path")
    parser.add_argument("--mode", choices=("single", "multi"), default="single")
    parser.add_argument("--limit", type=int, default=0)
    options = parser.parse_args(arguments)
    root = options.root or options.data[0].parent
    settings = {"mode": options.mode, "limit": options.limit}
    print(write_task(options.suite, options.data, root, options.out, **settings))
    return 0


def _names(suite: str) -> dict[str, tuple[str, str]]:
    return {f"{metric}_{reading}": (metric, reading) for metric, reading in METRICS[suite]}


def _yaml(name: str, suite: str, folder: Path) -> str:
    lines = [
        f"task: {name}",
        "dataset_path: json",
        "dataset_kwargs:",
        "  data_files:",
        f"    test: {folder / 'documents.jsonl'}",
        "test_split: test",
        "output_type: generate_until",
        "doc_to_visual: !function utils.doc_to_visual",
        "doc_to_text: !function utils.doc_to_text",
        "doc_to_target: answer",
        "process_results: !function utils.process_results",
        "generation_kwargs:",
        "  max_new_tokens: 512",
        "metric_list:",
    ]
    for metric in _names(suite):
        lines += [
            f"  - metric: {metric}",
            f"    aggregation: !function utils.{metric}",
            "    higher_is_better: true",
        ]
    return "\n".join([*lines, "metadata:", "  version: 1.0", ""])


def _utils(suite: str) -> str:
    lines = [
        f'"""Functions of the lmms-eval task {suite}; written by sama_plugin."""',
        "",
        "from sama_plugin.bridges.lmms_eval import task",
        "",
        f"METRICS = {list(_names(suite))!r}",
        "doc_to_visual, doc_to_text = task.doc_to_visual, task.doc_to_text",
        "",
        "",
        "def process_results(doc, results):",
        "    return task.process_results(doc, results, METRICS)",
        "",
        "",
    ]
    for name, pair in _names(suite).items():
        lines.append(f"{name} = task.aggregation({suite!r}, *{pair!r})")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
