"""`sama <verb>` and `python -m sama_plugin X`: which code runs, how errors end."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings

import pytest

from sama_plugin import cli
from sama_plugin.errors import ConfigError


def module(*arguments):
    command = [sys.executable, "-m", "sama_plugin", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_help_lists_the_installed_verbs_and_loads_nothing_heavy():
    script = (
        "import sys; from sama_plugin.cli import main; main(['--help']); "
        "print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    *lines, heavy = done.stdout.strip().splitlines()
    assert heavy == "set()"
    assert all(any(line.split()[:1] == [verb] for line in lines) for verb in cli.verbs())


@pytest.mark.parametrize("verb", sorted(cli.verbs()))
def test_every_verb_has_its_two_functions_and_help(verb, capsys):
    loaded = importlib.import_module(cli.VERBS[verb][0])
    assert callable(loaded.add_arguments) and callable(loaded.run)
    with pytest.raises(SystemExit) as stopped:
        cli.main([verb, "--help"])
    assert stopped.value.code == 0
    assert f"sama {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(("verb", "needs"), [("train", "config"), ("eval", "benchmark")])
def test_only_what_is_required_is_missed(verb, needs, capsys):
    with pytest.raises(SystemExit):
        cli.main([verb])
    assert capsys.readouterr().err.strip().endswith(f"required: {needs}")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (ConfigError("lora.r is -1"), 2, "sama: lora.r is -1"),
        (KeyboardInterrupt(), 130, "sama: interrupted"),
    ],
)
def test_errors_on_purpose_end_without_traceback(raised, code, said, capsys):
    def work():
        raise raised

    assert cli.reporting(work) == code
    assert capsys.readouterr().err.strip() == said


def test_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.reporting(lambda: 1 / 0)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["trian"], 2, "unknown command 'trian' (did you mean 'train'?)"),
        (["no.such"], 2, "cannot find module 'no.such'"),
        (["nothing_like_it"], 2, "neither a command, a .py file nor an importable module"),
        (["--version"], 0, "sama_plugin "),
        ([], 2, "usage: sama COMMAND"),
        (["train", "no/such.yaml"], 2, "sama: cannot read config no/such.yaml"),
    ],
)
def test_module_command_line(arguments, code, said):
    done = module(*arguments)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_warnings_for_developers_of_libraries_are_not_shown(monkeypatch):
    def work(verb, arguments):
        warnings.warn("will be removed in v6", FutureWarning, stacklevel=1)
        warnings.warn("your data is odd", UserWarning, stacklevel=1)

    monkeypatch.setattr(cli, "_run", work)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert cli.main(["train"]) == 0
    assert [str(one.message) for one in shown] == ["your data is odd"]


def test_unknown_verb_suggests_the_nearest(capsys):
    assert cli.main(["trian"]) == 2
    assert "did you mean 'train'?" in capsys.readouterr().err
