"""Commands that documents, configs and recipes quote, and whether they would be accepted.

`quoted()` finds them: code blocks of Markdown files, comments of YAML files, lines of shell
recipes, indented lines of module docstrings, and what the make targets run. `check` parses one as
the program it names would, without doing its work. Used by `test_readme.py`.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence
from unittest import mock

from sama_plugin import cli
from sama_plugin.patching.launch import split_flags
from sama_plugin.settings import load_yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTED = ("docs", "configs", "recipes", "patches", "benchmarks", "sama_plugin/assets")
OURS = re.compile(r"(configs|recipes|benchmarks|docs|patches|tests)/[\w./-]+\.\w+")
"""Paths inside this checkout; what a user brings (clips, checkpoints) is named otherwise."""

_PYTHON = re.compile(r"\$\{?PYTHON(:-\w+)?\}?|(?:\S*/)?bin/python3?\b")
_STARTS = re.compile(
    r"(?:[A-Z_]+=\S* )*"
    r"(?:sama|make|torchrun|python3? (?:-m sama_plugin|benchmarks/|recipes/)|recipes/)\b.*"
)


@dataclass(frozen=True)
class Command:
    """One quoted command: where it stands, and its words as a shell would split them."""

    where: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where}: {' '.join(self.words)}"[:110]


class Parsed(Exception):
    """Raised instead of going on, as soon as a program has accepted its command line."""


def quoted() -> list[Command]:
    """Every command of this checkout's documents, configs, recipes and make targets."""
    found: list[Command] = []
    for path in markdown_files():
        for language, block in code_blocks(path.read_text(encoding="utf-8")):
            if language in ("bash", "sh", "console", ""):
                found += _commands(path, block)
    for path in _files("*.yaml"):
        found += _commands(path, _comments(path, separator=r"(?:^|\s{2,})"))
    for path in _files("*.sh"):
        found += _commands(path, _comments(path)) + _commands(path, path.read_text())
    scripts = [*_files("*.py"), *(REPOSITORY / "sama_plugin/cli").glob("*.py")]
    for path in [*scripts, REPOSITORY / "sama_plugin/__main__.py"]:
        found += _commands(path, _indented(path))
    return found + [command for target in make_targets() for command in _made(target)]


def markdown_files() -> list[Path]:
    """README and every Markdown file of the documented folders."""
    return [REPOSITORY / "README.md", *_files("*.md")]


def code_blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of the fenced blocks of a Markdown text."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def make_targets() -> list[str]:
    """The phony targets of the Makefile."""
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return re.search(r"^\.PHONY:(.*)$", text, flags=re.MULTILINE).group(1).split()


def check(command: Command) -> None:
    """Raise unless the program would accept the command; its work is not done."""
    words = [word for word in command.words if "=" not in word or not word.split("=")[0].isupper()]
    for path in filter(OURS.fullmatch, words):
        assert (REPOSITORY / path).exists(), f"{command.where} names {path}, which does not exist"
    program, *rest = words
    if program == "torchrun":
        program, rest = "python", rest[rest.index("-m") :]
    if program == "make":
        for target in rest:
            make(target)
    elif program == "sama":
        _check_verb(rest)
    elif program.startswith("python"):
        _check_python(rest)


def make(target: str) -> str:
    """What `make target` would run; an unknown target is an AssertionError."""
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _check_verb(words: Sequence[str]) -> None:
    if not words or words[0].startswith("-"):
        return
    verb, *rest = words
    assert verb in cli.verbs(), f"`sama {verb}` does not exist; there are {', '.join(cli.verbs())}"
    if verb == "run":
        _check_launch(rest)
        return
    module = importlib.import_module(cli.VERBS[verb][0])
    parser = argparse.ArgumentParser(prog=f"sama {verb}")
    module.add_arguments(parser)
    arguments = cli._parse(parser, rest)
    if verb == "chat":
        for region in arguments.region:
            module.parse_region(region)
    config = getattr(arguments, "config", None)
    if config is not None and OURS.fullmatch(str(config)):
        schema = (
            "train"
            if verb == "train"
            else importlib.import_module("sama_plugin.cli.config")._kind(config)
        )
        _check_config(schema, config, getattr(arguments, "overrides", ()))


def _check_config(kind: str, path: str, overrides: Sequence[str]) -> None:
    from sama_plugin.cli.config import SCHEMAS

    module, _, name = SCHEMAS[kind].partition(":")
    load_yaml(getattr(importlib.import_module(module), name), REPOSITORY / path, overrides)


def _check_python(words: Sequence[str]) -> None:
    if words[0] != "-m":
        _check_script(REPOSITORY / words[0], words[1:])
    elif words[1] != "sama_plugin":
        _parses(importlib.import_module(words[1]), words[1:])
    elif words[2] in cli.VERBS or words[2].startswith("-"):
        _check_verb(words[2:])
    else:
        _check_launch(words[2:])


def _check_launch(words: Sequence[str]) -> None:
    options, rest = split_flags(words)
    assert options.plugin == "sama", f"--plugin sama is missing: {' '.join(words)}"
    if options.config is not None and OURS.fullmatch(options.config):
        _check_config("plugin", options.config, options.set)
    if OURS.fullmatch(rest[0]):
        _check_script(REPOSITORY / rest[0], rest[1:])


def _check_script(path: Path, words: Sequence[str]) -> None:
    spec = importlib.util.spec_from_file_location(f"quoted_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        _parses(module, [path.name, *words])
    finally:
        del sys.modules[spec.name]


def _parses(module, words: Sequence[str]) -> None:
    """Call the module's `main()` up to the point where its command line is understood."""
    original = argparse.ArgumentParser.parse_known_args

    def parse(self, args=None, namespace=None):
        found, rest = original(self, args, namespace)
        assert not rest, f"{words[0]} does not know {' '.join(rest)}"
        raise Parsed

    command_line = mock.patch.object(sys, "argv", list(words))
    with command_line, mock.patch.object(argparse.ArgumentParser, "parse_known_args", parse):
        try:
            module.main()
        except Parsed:
            return
    raise AssertionError(f"{words[0]} never parses its command line")


def _files(pattern: str) -> list[Path]:
    folders = [REPOSITORY / folder for folder in DOCUMENTED]
    return sorted(path for folder in folders for path in folder.rglob(pattern))


def _commands(path: Path, text: str) -> list[Command]:
    """Lines of `text` that start with one of our programs, continued lines joined."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        line = _PYTHON.sub("python", line.strip().removeprefix("$ "))
        if _STARTS.fullmatch(line):
            words = _split(line)
            found.append(Command(str(path.relative_to(REPOSITORY)), tuple(words)))
    return found


def _split(line: str) -> list[str]:
    """Words of a command line; a shell variable stands for the number 1, "$@" for nothing."""
    words = [word for word in shlex.split(line, comments=True) if word not in ("$@", "${@}")]
    return [re.sub(r"\$\{?\w+(:-[^}]*)?\}?", "1", word) for word in words]


def _comments(path: Path, separator: str = r"^\s*") -> str:
    """Commands in comment lines: alone on the line, or (YAML headers) after two or more blanks."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        comment = line.strip().removeprefix("#") if line.strip().startswith("#") else ""
        lines += re.findall(f"{separator}({_STARTS.pattern})$", comment)
    return "\n".join(lines)


def _indented(path: Path) -> str:
    """Examples of a module's docstring; what follows three blanks explains the command.

    The formatter takes the indentation off where nothing but examples follows the first line.
    """
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    lines = [line for line in docstring.splitlines() if line.startswith(("    ", "sama ", "torch"))]
    return "\n".join(re.split(r"\s{3,}", line.strip())[0] for line in lines)


def _made(target: str) -> Iterator[Command]:
    for line in make(target).replace("\\\n", " ").splitlines():
        words = tuple(_split(_PYTHON.sub("python", re.sub(r"\S*bin/sama\b", "sama", line))))
        ours = words[:1] == ("sama",) or (len(words) > 1 and words[1].startswith("benchmarks/"))
        if ours:
            yield Command(f"make {target}", words)
