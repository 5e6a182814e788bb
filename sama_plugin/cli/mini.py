"""`sama mini`: make the mini world's clips, and teach its host.

sama mini world --out out/mini/world --clips 2000
sama mini teach --out out/mini/run --clips 2000 --steps 2000
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the verb."""
    actions = parser.add_subparsers(dest="action", required=True)
    world = actions.add_parser("world", help="write clips and annotation files in real formats")
    world.add_argument("--out", type=Path, required=True)
    world.add_argument("--split", choices=("train", "heldout"), default="train")
    world.add_argument("--clips", type=int, default=200)
    world.add_argument("--seed", type=int, default=0, help="seed of the first clip")
    world.add_argument("--frames", default="npy", choices=("npy", "png", "jpg", "mp4"))
    teach = actions.add_parser("teach", help="fine-tune the mini host with plugin and LoRA")
    teach.add_argument("--out", type=Path, required=True)
    teach.add_argument("--clips", type=int, default=2000)
    teach.add_argument("--steps", type=int, default=2000)
    teach.add_argument("--batch", type=int, default=8)
    teach.add_argument("--seed", type=int, default=0)
    teach.add_argument("--resume", action="store_true")
    teach.add_argument("--ship", type=Path, help="also write the adapter here in 16 bit")
    teach.add_argument(
        "overrides", nargs="*", default=[], help="plugin settings, e.g. aggregator.kind=none"
    )


def run(args: argparse.Namespace) -> int:
    """Dispatch to the action."""
    if args.action == "world":
        from sama_plugin.miniworld.write import write_world

        counts = write_world(args.out, args.split, args.clips, args.seed, args.frames)
        print(f"{args.out}: " + ", ".join(f"{count} {part}" for part, count in counts.items()))
        return 0
    return _teach(args)


def _teach(args: argparse.Namespace) -> int:
    from sama_plugin.miniworld.lesson import LONG_SHARES, lesson, mini_config, prepare
    from sama_plugin.train.run import train

    world = prepare(args.out / "world", args.clips)
    config = lesson(
        world,
        args.out / "training",
        args.steps,
        sama=mini_config(*args.overrides),
        batch_size=args.batch,
        seed=args.seed,
        shares=LONG_SHARES,
    )
    result = train(config, resume=args.resume)
    print(f"{result.steps} steps, mean loss {result.loss:.3f}: {result.adapter}")
    if args.ship:
        from sama_plugin.model.checkpoint import half_precision

        print(f"shipped to {half_precision(result.adapter, args.ship)}")
    return 0
