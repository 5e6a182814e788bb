"""`sama data check|stats|peek|convert|index`: read a dataset as training would, before a GPU is
paid for.

    sama data check configs/train/mini.yaml                       # every source of a training run
    sama data check qa.json --format videorefer_700k --root clips # one annotation file
    sama data stats qa.json --format videorefer_700k --root clips --out stats.html
    sama data peek qa.json --format videorefer_700k --root clips --out peek.html
    sama data convert qa.json qa.jsonl --format videorefer_700k --root clips
    sama data index configs/train/mini.yaml                       # once a machine, before training

`check` ends with 0 (nothing is lost), 1 (some records are), 2 (there is no usable sample).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

from sama_plugin.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the verb."""
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="list what is wrong, by file, record and field")
    _add_source(check)
    check.add_argument("--json", action="store_true", help="print the whole report as JSON")
    check.add_argument("--no-decode", action="store_true", help="open clips, decode no frame")
    stats = actions.add_parser("stats", help="counts, lengths, areas, token budgets")
    _add_source(stats)
    stats.add_argument("--json", action="store_true", help="print the numbers as JSON")
    stats.add_argument("--out", type=Path, help="also write a page of histograms")
    stats.add_argument("--model", help="packaged model or host checkpoint folder: count tokens")
    peek = actions.add_parser("peek", help="write a page of what the model will see")
    _add_source(peek)
    peek.add_argument("--model", default="mini", help="packaged model or host checkpoint folder")
    peek.add_argument("--out", type=Path, default=Path("peek.html"), help="the page")
    peek.add_argument("--samples", type=int, default=8, help="samples of each source")
    convert = actions.add_parser("convert", help="write the samples in another format")
    _add_source(convert)
    convert.add_argument("out", type=Path, help="annotation file to write")
    convert.add_argument("--to", default="sama", help="format to write (default: ours)")
    convert.add_argument("--keep-good", action="store_true", help="leave bad records out")
    index = actions.add_parser("index", help="prepare large annotation, once a machine")
    _add_source(index)


def run(args: argparse.Namespace) -> int:
    """Do what was asked; the worst source decides the exit code."""
    actions = {
        "check": _check,
        "stats": _stats,
        "peek": _peek,
        "convert": _convert,
        "index": _index,
    }
    return actions[args.action](args)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="annotation file, or the YAML of a training run")
    parser.add_argument("--format", help="format of an annotation file, e.g. sama, sama_239k")
    parser.add_argument("--root", default="", help="media folder (default: that of the file)")
    parser.add_argument("--limit", type=int, default=0, help="only the first samples")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of the format"
    )


def _check(args: argparse.Namespace) -> int:
    from sama_plugin.data.check import check_source

    sources, config = _sources(args)
    reports = []
    for source in sources:
        decode = not args.no_decode
        with _progress(source) as progress:
            reports.append(check_source(source, config.frames, decode=decode, progress=progress))
        if not args.json:
            print("\n".join(reports[-1].lines()))
    if args.json:
        print(json.dumps([report.to_json() for report in reports], indent=2))
    return max(report.exit_code for report in reports)


def _peek(args: argparse.Namespace) -> int:
    import numpy as np

    from sama_plugin.data.peek import peek
    from sama_plugin.data.pointing import point
    from sama_plugin.data.regions import region_rule
    from sama_plugin.data.sources import open_source
    from sama_plugin.dialog.sample import Sample

    if args.samples < 1:
        raise ConfigError(f"--samples is {args.samples}; give 1 or more")
    sources, config = _sources(args)
    encoder, grid = _encoder(args.model)
    rng = np.random.default_rng(0)
    shown = []
    for source in sources:
        opened = open_source(source)
        step = max(1, len(opened) // args.samples)
        for index in range(len(opened))[: step * args.samples : step]:
            sample = opened.read(index)
            if isinstance(sample, Sample):
                sample = point(sample, source.pointing, rng)
            shown.append((sample, source.frames or config.frames))
    rule = region_rule(config.region, grid, config.compat, config.seed)
    print(peek(shown, encoder, args.out, rule))
    return 0


def _convert(args: argparse.Namespace) -> int:
    from sama_plugin.data.formats import FORMATS, read_samples
    from sama_plugin.data.report import Quarantine, Strict

    writer = FORMATS.get(args.to)
    if not hasattr(writer, "write"):
        raise ConfigError(f"format {args.to!r} is read only; --to sama holds every feature")
    sources, _ = _sources(args)
    if len(sources) > 1:
        raise ConfigError(
            f"convert writes one file from one source, {args.source} names {len(sources)}; give an "
            "annotation file and its --format"
        )
    source = sources[0]
    if args.out.exists() and args.out.samefile(source.path):
        raise ConfigError(f"{args.out} is what is read; name another file to write")
    root = source.root or Path(source.path).parent
    report: Any = Quarantine() if args.keep_good else Strict()
    samples = read_samples(source.format, source.path, root, report, **source.options)
    count = writer.write(samples, args.out, root)
    print(f"{args.out}: {count} records, media paths from {root}")
    if args.keep_good and report.dropped:
        print(f"left out: {report.lost} ({report.summary()})", file=sys.stderr)
        return 1
    return 0


def _stats(args: argparse.Namespace) -> int:
    from sama_plugin.data.regions import region_rule
    from sama_plugin.data.sources import open_source
    from sama_plugin.data.stats import measure, write_page

    sources, config = _sources(args)
    encoder, grid = _encoder(args.model) if args.model else (None, (1, 1))
    rule = region_rule(config.region, grid, config.compat, config.seed)
    found = []
    for source in sources:
        policy = source.frames or config.frames
        opened = open_source(source)
        samples = map(opened.read, range(len(opened)))
        found.append(measure(source.name, samples, encoder, policy, rule=rule))
        if not args.json:
            print("\n".join(found[-1].lines()))
    if args.json:
        print(json.dumps([stats.to_json() for stats in found], indent=2))
    if args.out:
        print(write_page(found, args.out), file=sys.stderr)
    return 0


def _index(args: argparse.Namespace) -> int:
    import time

    from sama_plugin.data.prepared import folder_of, prepare
    from sama_plugin.data.report import Quarantine

    sources, _ = _sources(args)
    for source in sources:
        if source.format == "sama":
            print(f"{source.name}: our own format is read from disk as it is")
            continue
        began, report = time.monotonic(), Quarantine(source.budget)
        with _progress(source) as progress:
            samples = prepare(source, report, progress)
        seconds = time.monotonic() - began
        print(f"{source.name}: {len(samples)} samples in {folder_of(source)}, {seconds:.1f} s")
        if report.dropped:
            print(f"  set aside: {report.lost} ({report.summary()})")
    return 0


def _sources(args: argparse.Namespace) -> tuple[list[Any], Any]:
    """The sources that are meant, and the plugin's settings that they are read with."""
    from sama_plugin.data.sources import SourceConfig
    from sama_plugin.model.config import SamaConfig

    if args.format is None:
        if not args.source.endswith((".yaml", ".yml")):
            raise ConfigError(f"{args.source}: give its --format, or the YAML of a training run")
        from sama_plugin.settings import load_yaml
        from sama_plugin.train.config import TrainConfig

        config, _ = load_yaml(TrainConfig, args.source)
        if not config.data:
            raise ConfigError(f"{args.source} names no data; list its sources under `data`")
        limited = [dataclasses.replace(one, limit=args.limit or one.limit) for one in config.data]
        return limited, config.sama
    options = dict(_option(text) for text in args.option)
    source = SourceConfig(
        format=args.format, path=args.source, root=args.root, limit=args.limit, options=options
    )
    return [source], SamaConfig()


def _option(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--option {text!r} is not NAME=VALUE")
    return name, yaml.safe_load(value)


def _encoder(model: str) -> tuple[Any, tuple[int, int]]:
    """Tokenises as the host would, and its grid of visual tokens; no weights are used."""
    from sama_plugin.data.encode import Encoder
    from sama_plugin.dialog.tokens import add_tokens
    from sama_plugin.hosts.base import find_adapter
    from sama_plugin.infer.load import load_host

    host, tokenizer = load_host(model)
    adapter = find_adapter(host)
    add_tokens(tokenizer)
    height, width = adapter.grid(host)
    return Encoder(tokenizer, adapter, height * width), (height, width)


@contextlib.contextmanager
def _progress(source: Any) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, with an end in sight where lines are samples."""
    from tqdm import tqdm

    from sama_plugin.data.formats import files

    shown, total = sys.stderr.isatty(), None
    if shown and source.path.endswith(".jsonl") and Path(source.path).is_file():
        lines = sum(1 for _ in files.lines(source.path))
        total = min(lines, source.limit or lines)
    with tqdm(total=total, desc=source.name, unit=" samples", disable=not shown) as bar:
        yield lambda count: bar.update(count - bar.n)
