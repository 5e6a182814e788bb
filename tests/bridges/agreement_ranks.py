"""What each rank of the agreement test runs: every case once, one line a case and rank.

Rank 1 of `other` was allowed a patch that rank 0 was not; rank 1 of `versions` has an older plugin.
"""

from __future__ import annotations

import sys
from unittest import mock

import torch.distributed as dist

from sama_plugin.bridges import agreement
from sama_plugin.errors import PluginError
from sama_plugin.patching.ledger import Ledger


def main() -> None:
    dist.init_process_group("gloo")
    for case in ("same", "other", "versions"):
        sys.stdout.write(f"rank {dist.get_rank()} {case} {compare(case)}\n")
        sys.stdout.flush()
    dist.destroy_process_group()


def compare(case: str) -> str:
    """What `check_ranks` says to this rank."""
    odd = dist.get_rank() == 1
    ledger = Ledger()
    ledger.note("the script's model", "attached")
    if odd and case == "other":
        ledger.note("host.build", "code never read", verb="allowed")
    version = "0.0.0" if odd and case == "versions" else agreement.__version__
    try:
        with mock.patch.object(agreement, "__version__", version):
            agreement.check_ranks(ledger)
    except PluginError as error:
        return f"stopped: {error}"
    return "agreed"


if __name__ == "__main__":
    main()
