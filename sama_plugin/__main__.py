"""`python -m sama_plugin X ...`: X a command of `sama`, or a script or module to run with `--plugin
sama`.

Nothing happens at import, because spawned workers import the starting module again.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Iterable


def main() -> int:
    from sama_plugin.cli import VERBS, reporting
    from sama_plugin.cli import main as command_line
    from sama_plugin.patching.launch import launch, script_first

    arguments = sys.argv[1:]
    first = [*script_first(arguments), ""][0]
    if not first or first in VERBS or first.startswith("-") or _mistyped(first, VERBS):
        return command_line(arguments)
    return reporting(lambda: launch(arguments))


def _mistyped(first: str, verbs: Iterable[str]) -> bool:
    """Whether a word looks like a command, and no module has that name."""
    close = get_close_matches(first, list(verbs), n=1)
    return bool(close) and first.isidentifier() and find_spec(first) is None


if __name__ == "__main__":
    sys.exit(main())
