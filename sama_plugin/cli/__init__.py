"""`sama <verb> ...`: one file a verb, parse and print only.

A verb's module has `add_arguments(parser)` and `run(args) -> int`; it is imported when it is asked
for, so `sama --help` is quick. Errors raised on purpose end in one message and exit code 2, an
interruption in 130; anything else keeps its traceback, because it is a bug.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import os
import sys
import warnings
from typing import Any, Callable, Optional, Sequence

from sama_plugin.errors import SamaError
from sama_plugin.registry import nearest

VERBS = {
    "demo": ("sama_plugin.cli.demo", "teach the mini host to refer and to ground, and look at it"),
    "train": ("sama_plugin.cli.train", "fine-tune a host with the plugin and LoRA"),
    "run": ("sama_plugin.cli.run", "run an unmodified training script with --plugin sama"),
    "chat": ("sama_plugin.cli.chat", "talk about a video: regions in, masks out"),
    "eval": ("sama_plugin.cli.eval", "score an adapter on a benchmark"),
    "data": ("sama_plugin.cli.data", "check, convert and look at datasets"),
    "import": ("sama_plugin.cli.import_", "bring published weights into native hosts and adapters"),
    "merge": ("sama_plugin.cli.merge", "fold LoRA and new tokens into the host, keep the plugin"),
    "average": ("sama_plugin.cli.average", "the weighted mean of adapters of one lineage"),
    "export": ("sama_plugin.cli.export", "one folder with everything, for the Auto classes"),
    "swap-llm": ("sama_plugin.cli.swap_llm", "put another language model under a native InternVL"),
    "config": ("sama_plugin.cli.config", "print a configuration and where each value came from"),
    "doctor": ("sama_plugin.cli.doctor", "check the installation and a host"),
    "mini": ("sama_plugin.cli.mini", "make the mini world, its clips and its models"),
}

CPU_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""oneDNN keeps a kernel for every shape it met, 1,024 of them by default; batches of ever new
lengths made that 10 GB in 240 steps of the mini. Both are read when torch computes for the first
time."""
USAGE_ERROR = 2
INTERRUPTED = 130


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Entry point of the `sama` command; returns the exit code."""
    for cache in CPU_CACHES:
        os.environ.setdefault(cache, "64")
    _hush_libraries()
    if hasattr(sys.stdout, "reconfigure"):  # a record's name must not stop a narrow terminal
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else USAGE_ERROR
    if arguments[0] == "--version":
        from sama_plugin import __version__

        print(f"sama_plugin {__version__}")
        return 0
    return reporting(lambda: _run(arguments[0], arguments[1:]))


def reporting(work: Callable[[], Any]) -> int:
    """Run `work`; errors raised on purpose and interruptions become a message and an exit code.

    A whole number that `work` returns is the exit code; anything else counts as success.
    """
    try:
        code = work()
        return code if isinstance(code, int) else 0
    except SamaError as error:
        print(f"sama: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("sama: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, e.g. `head`, has gone
        sys.stdout = None
        return 0


def _hush_libraries() -> None:
    """What libraries tell each other's developers is no news for who runs a command; `python -W`
    and `PYTHONWARNINGS` bring it back."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # no CPU kernel for 4 bits: slower


def verbs() -> dict[str, str]:
    """Verb to its one-line help, of those that are installed."""
    return {
        verb: text
        for verb, (module, text) in VERBS.items()
        if importlib.util.find_spec(module) is not None
    }


def _run(verb: str, arguments: Sequence[str]) -> int:
    known = verbs()
    if verb not in known:
        print(
            f"sama: unknown command {verb!r}{nearest(verb, known)}; known: {', '.join(known)}",
            file=sys.stderr,
        )
        return USAGE_ERROR
    module = importlib.import_module(VERBS[verb][0])
    parser = argparse.ArgumentParser(
        prog=f"sama {verb}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return module.run(_parse(parser, arguments))


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Flags may stand between positional arguments, where the verb's parser allows it (one without
    actions of its own).
    """
    try:
        return parser.parse_intermixed_args(arguments)
    except TypeError:
        return parser.parse_args(arguments)


def _overview() -> str:
    known = verbs()
    width = max(map(len, known))
    lines = [f"  {verb:<{width}}  {text}" for verb, text in known.items()]
    return "\n".join(
        ["usage: sama COMMAND ...", "", *lines, "", "`sama COMMAND --help` explains a command."]
    )
