"""Fold a trained adapter into its host: LoRA into the layers, new tokens into the tables.

    sama merge --model HOST --adapter out/run --to DIR

DIR becomes a checkpoint of the host's own class, with DIR/sama_adapter for the senses, without
LoRA. `sama export` writes the same with segmenter and processor, to be moved as one folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="host: folder, hub id or 'mini'")
    parser.add_argument("--adapter", help="sama_adapter folder; by default the one of the model")
    parser.add_argument("--to", required=True, metavar="DIR", type=Path, help="a new folder")


def run(args: argparse.Namespace) -> int:
    from sama_plugin.model.export import write_merged

    return fold(args, write_merged)


def fold(args: argparse.Namespace, write: Callable[..., Any]) -> int:
    """Load host and adapter, let `write` fold them into the new folder, say what it did."""
    from sama_plugin.atomic import atomic_dir
    from sama_plugin.errors import OutputError
    from sama_plugin.infer.load import find_adapter_folder, load_host
    from sama_plugin.model.attach import attach
    from sama_plugin.model.checkpoint import load_adapter, read_config

    if args.to.exists():
        raise OutputError(f"{args.to} exists already; name a new folder")
    adapter = find_adapter_folder(args.model, args.adapter)
    host, tokenizer = load_host(args.model)
    sama = attach(host, tokenizer, read_config(adapter))
    model = load_adapter(sama, adapter)
    with atomic_dir(args.to) as folder:
        done = write(sama, model, folder, Path(args.model))
    print(done.summary())
    print(f"written to {args.to}: `sama chat --model {args.to}`")
    return 0
