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
    if not arguments or arguments[0] in VERBS or arguments[0].startswith("-"):
        return command_line(arguments)
    from sama_plugin.patching.launch import launch

    return reporting(lambda: launch(arguments))


if __name__ == "__main__":
    sys.exit(main())
