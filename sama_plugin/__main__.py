"""`python -m sama_plugin X ...`: X a command of `sama`, or a script or module to run with `--plugin
sama`.

Nothing happens at import, because spawned workers import the starting module again.
"""

from __future__ import annotations

import sys


def main() -> int:
    from sama_plugin.cli import VERBS, reporting
    from sama_plugin.cli import main as command_line

    arguments = sys.argv[1:]
    from sama_plugin.patching.launch import launch, script_first

    first = [*script_first(arguments), ""][0]
    if not first or first in VERBS or first.startswith("-"):
        return command_line(arguments)
    return reporting(lambda: launch(arguments))


if __name__ == "__main__":
    sys.exit(main())
