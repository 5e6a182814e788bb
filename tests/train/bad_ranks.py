"""What each rank of the test of bad records runs: `torchrun ... bad_ranks.py OUT DATA BUDGET`."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(out: str, data: str, budget: str) -> None:
    from sama_plugin.errors import DataError
    from sama_plugin.train.run import train
    from tests.train.factories import tiny_run

    config = tiny_run(Path(data), Path(out), steps=6, save_every=6, workers=1)
    config.data[0].budget = int(budget)
    try:
        train(config)
    except DataError as error:
        Path(out, f"stopped-{os.environ['RANK']}.txt").write_text(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
