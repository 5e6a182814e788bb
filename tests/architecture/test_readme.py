"""What the documents say works: commands are accepted, links lead somewhere, the example runs."""

from __future__ import annotations

import ast
import importlib
import re

import pytest

from sama_plugin import cli
from tests.architecture.commands import (
    REPOSITORY,
    Command,
    check,
    code_blocks,
    make_targets,
    markdown_files,
    quoted,
)

LINK = re.compile(r"\]\(([^)\s]+)\)|<(?:img|a)[^>]+(?:src|href)=\"([^\"]+)\"")
COMMANDS = list(dict.fromkeys(quoted()))
CHEAP = [one for one in COMMANDS if one.words[:3] == ("sama", "config", "show")]


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_command_is_accepted(command, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    check(command)


def test_commands_are_found_where_they_stand():
    places = {command.where for command in COMMANDS}
    expected = {"README.md", "make demo", "recipes/hf_trainer/finetune.sh", "configs/mini.yaml"}
    assert expected <= places


@pytest.mark.parametrize(
    "words",
    [
        ("make", "dmeo"),
        ("sama", "trian", "configs/mini.yaml"),
        ("sama", "chat", "--video", "clip.mp4", "--reigon", "dog@1:box=1,2,3,4"),
        ("sama", "chat", "--video", "clip.mp4", "--region", "dog:1,2,3,4"),
        ("sama", "config", "show", "configs/mini.yaml", "aggregator.hiden=3"),
        ("sama", "config", "show", "configs/no_such.yaml"),
        ("python", "-m", "sama_plugin", "your_trainer.py", "--plugin.data", "x.jsonl"),
        ("python", "-m", "sama_plugin", "your_trainer.py", "--plugin", "sama", "--plugin.dat", "x"),
        ("python", "benchmarks/context_injection.py", "--no-such-flag"),
        ("python", "benchmarks/no_such.py"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_would_be_noticed(words, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises((AssertionError, SystemExit, ValueError, RuntimeError)):
        check(Command("nowhere", words))


@pytest.mark.parametrize("command", CHEAP, ids=str)
def test_cheap_command_runs(command, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    assert cli.main(command.words[1:]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 10


@pytest.mark.parametrize("path", markdown_files(), ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_links_lead_somewhere(path):
    targets = [a or b for a, b in LINK.findall(path.read_text(encoding="utf-8"))]
    for target in targets:
        if re.match(r"\w+:|#", target):
            continue
        found = path.parent / target.partition("#")[0]
        assert found.exists(), f"{path.name} links to {target}, which does not exist"


def test_make_targets_are_told_from_the_readme():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert {"demo", "test"} <= set(make_targets())
    assert re.search(r"^make demo\b.*\nmake test\b", text, flags=re.MULTILINE)


def python_examples():
    for path in markdown_files():
        for number, (language, block) in enumerate(code_blocks(path.read_text(encoding="utf-8"))):
            if language == "python":
                yield pytest.param(block, id=f"{path.relative_to(REPOSITORY)}-{number}")


@pytest.mark.parametrize("block", python_examples())
def test_names_in_examples_exist(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("sama_plugin"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


def test_readme_example_runs_on_the_tiny_host(tmp_path, monkeypatch):
    """As printed; only the host is the tiny one, and a grammar makes it ground."""
    import numpy as np

    from sama_plugin.infer import load
    from sama_plugin.miniworld.host import tiny_host
    from sama_plugin.model import generate
    from sama_plugin.model.attach import attach
    from sama_plugin.viz.write import write_video
    from tests.infer.conftest import speak_grammar
    from tests.model.conftest import tiny_config

    (block,) = [
        code
        for language, code in code_blocks((REPOSITORY / "README.md").read_text(encoding="utf-8"))
        if language == "python"
    ]
    frames = np.random.default_rng(0).integers(0, 255, (16, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", frames, fps=8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generate, "_chooser", speak_grammar)
    model, tokenizer = tiny_host(seed=0)
    before = [name for name, _ in model.named_modules()]
    asked = []

    def load_tiny(*words):
        asked.append(words)
        return attach(model, tokenizer, tiny_config())

    monkeypatch.setattr(load, "load_sama", load_tiny)
    names: dict = {}
    exec(block, names)
    assert asked == [("mini",)] and asked[0][0] in load.PACKAGED_ADAPTERS
    session, answer = names["session"], names["answer"]
    assert [turn.asked for turn in session.turns][0] == "What does @ball do?"
    assert answer is session.answers[-1]
    assert session.answers[1].phrases[0].track.frames() == tuple(range(16))
    assert [name for name, _ in model.named_modules()] == before
