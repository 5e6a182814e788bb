"""Run an unmodified training script with the plugin.

    sama run SCRIPT.py --plugin sama --plugin.data FILE.jsonl --plugin.config FILE.yaml ...
    sama run --processes 8 internvl/train/internvl_chat_finetune.py --plugin sama ...
    sama run --print SCRIPT.py --plugin sama ...

Prints the line that it runs. The same line works under other launchers, each of which can start a
module: `torchrun ... -m sama_plugin SCRIPT.py ...`, `deepspeed --module sama_plugin SCRIPT.py ...`,
`accelerate launch -m sama_plugin SCRIPT.py ...`.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes", type=int, default=1, help="processes on this machine, by torchrun"
    )
    parser.add_argument("--print", action="store_true", help="only print the line")
    parser.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        metavar="SCRIPT ...",
        help="a .py file or a dotted module, then its flags and --plugin flags",
    )


def run(args: argparse.Namespace) -> int:
    line = command(args.processes, args.rest)
    print(f"sama: {shlex.join(line)}", file=sys.stdout if args.print else sys.stderr, flush=True)
    if args.print:
        return 0
    if args.processes == 1:
        from sama_plugin.patching.launch import launch

        launch(args.rest)
        return 0
    return subprocess.call([sys.executable, "-m", "torch.distributed.run", *line[1:]])


def command(processes: int, rest: list[str]) -> list[str]:
    """The line that runs `rest` in this many processes."""
    start = ["python"] if processes == 1 else ["torchrun", "--nproc_per_node", str(processes)]
    return [*start, "-m", "sama_plugin", *rest]
