"""The most memory this process had resident so far.

Linux says it for the program that runs now; `getrusage` would count what the parent held when it
started us, and gives every worker the size of the training before it. Used by the demo's report.
"""

from __future__ import annotations

import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_gigabytes() -> float:
    """In units of 1e9 bytes."""
    if STATUS.is_file():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e9
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
