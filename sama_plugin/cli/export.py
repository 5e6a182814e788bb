"""Write one self-contained folder: merged host, tokenizer, processor, plugin and segmenter.

    sama export --model HOST --adapter out/run --to DIR

transformers' Auto classes load DIR without remote code; `sama chat --model DIR` and
`load_sama("DIR")` give it its senses.
"""

from __future__ import annotations

import argparse

from sama_plugin.cli import merge


def add_arguments(parser: argparse.ArgumentParser) -> None:
    merge.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from sama_plugin.model.export import write_export

    return merge.fold(args, write_export)
