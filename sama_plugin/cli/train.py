"""Fine-tune a host with the plugin and LoRA.

    sama train configs/train/mini.yaml train.steps=500 sama.lora.r=32 --out out/mini
    torchrun --nproc_per_node 8 -m sama_plugin train configs/train/internvl3_8b.yaml

Any value of the file can be overridden by `section.key=value`; `sama config show` prints what
results.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="YAML file with the sections model, sama, data and train")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="a.b=value", help="override values of it"
    )
    parser.add_argument("--out", help="output folder (train.out)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from the newest checkpoint of the output folder",
    )


def run(args: argparse.Namespace) -> int:
    from sama_plugin.settings import load_yaml
    from sama_plugin.train.config import TrainConfig
    from sama_plugin.train.run import train

    overrides = [*args.overrides, *([f"train.out={args.out}"] if args.out else [])]
    config, _ = load_yaml(TrainConfig, args.config, overrides)
    result = train(config, resume=args.resume)
    if result.writes:
        print(f"{result.steps} steps, loss {result.loss:.4f}, adapter in {result.adapter}")
    return 0
