"""Print a configuration and where each value came from.

sama config show configs/train/mini.yaml sama.aggregator.kind=none
"""

from __future__ import annotations

import argparse

SCHEMAS = {
    "train": "sama_plugin.train.config:TrainConfig",
    "plugin": "sama_plugin.model.config:SamaConfig",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    show = actions.add_parser("show", help="print each value and its origin")
    show.add_argument("config", help="YAML file")
    show.add_argument("overrides", nargs="*", default=[], metavar="a.b=value")
    show.add_argument(
        "--kind",
        choices=sorted(SCHEMAS),
        help="what the file configures; by default `plugin` if it has its sections, else `train`",
    )


def run(args: argparse.Namespace) -> int:
    from sama_plugin.registry import Registry
    from sama_plugin.settings import leaves, load_yaml, to_dict

    schema = Registry("config kind", SCHEMAS).get(args.kind or _kind(args.config))
    config, origins = load_yaml(schema, args.config, args.overrides)
    rows = [(key, str(value), origins[key]) for key, value in leaves(to_dict(config)).items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, value, origin in rows:
        print(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
    return 0


def _kind(path: str) -> str:
    from sama_plugin.settings import read_yaml

    train_sections = {"model", "sama", "data", "train"}
    values = read_yaml(path)
    return "train" if not values or set(values) & train_sections else "plugin"
