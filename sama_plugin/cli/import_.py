"""Bring published weights into the plugin's layout; every tensor is accounted for.

SRC is a folder or a file: SAMA, Sa2VA (InternVL and Qwen-VL families), remote-code InternVL, SAM2
of Meta or of transformers, InstructBLIP's Q-Former, VideoRefer's region encoder. Unknown or missing
tensors are errors, and then nothing is written. `import_report.json` lists what became of each, and
what the model cannot do.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", type=Path, help="checkpoint folder or file")
    parser.add_argument("--to", required=True, metavar="DIR", type=Path, help="a new folder")
    parser.add_argument("--layout", help="name of the layout, if it should not be found out")
    parser.add_argument(
        "--vocabulary", type=Path, help="BERT's vocab.txt, for the word pieces of SAMA checkpoints"
    )


def run(args: argparse.Namespace) -> int:
    from sama_plugin.model.importers.bring import bring

    done = bring(args.source, args.to, args.layout, args.vocabulary)
    print(f"{done.layout}: {done.plan.summary()}")
    for name, reason in [*done.plan.dropped.items()][:8]:
        print(f"  dropped {name}: {reason}")
    for name, reason in [*done.plan.filled.items()][:8]:
        print(f"  filled {name}: {reason}")
    for note in done.plan.notes:
        print(f"  note: {note}")
    print(f"written to {done.folder}; every tensor is in import_report.json")
    return 0
