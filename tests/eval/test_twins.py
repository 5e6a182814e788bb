"""`sama eval mini-...`: every twin from made-up clips to its page, with an untrained model."""

from __future__ import annotations

import json
import re

import pytest

from sama_plugin.cli import main
from sama_plugin.cli.eval import TWINS
from sama_plugin.infer import load
from sama_plugin.model.attach import attach
from tests.model.conftest import tiny_config


@pytest.fixture(scope="module")
def tiny_sama():
    from sama_plugin.miniworld.host import tiny_host

    return attach(*tiny_host(seed=0), tiny_config())


@pytest.fixture
def command(tiny_sama, tmp_path, monkeypatch):
    """Arguments that run a twin with the tiny model into a folder of its own."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "config.json").write_text("{}")
    monkeypatch.setattr(load, "load_sama", lambda *args, **options: tiny_sama)
    monkeypatch.setenv("PATH", "")  # caption metrics have tests of their own
    small = ["--clips", "1", "--limit", "2", "--max-new-tokens", "4", "--adapter", str(adapter)]
    return lambda name, *more: ["eval", name, *small, "--out", str(tmp_path / name), *more]


@pytest.mark.parametrize("name", TWINS.names())
def test_a_twin_runs_end_to_end(name, command, tmp_path, capsys):
    assert main(command(name, "--json")) == 0
    summary = json.loads(capsys.readouterr().out)
    cases = summary["material"]["cases"]
    assert summary["settings"]["benchmark"] == name and cases in (1, 2)
    assert not summary["failures"]["count"] and not summary["faults"]["count"]
    assert not summary["material"]["records_not_read"]["count"]
    assert summary["metrics"] or summary["not_computed"]
    page = (tmp_path / name / "index.html").read_text()
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert len(pictures) == len(set(pictures)) == cases
    assert all((tmp_path / name / picture).stat().st_size for picture in pictures)
    for said in (summary["settings"]["data_sha256"], summary["versions"]["torch"], "corrected"):
        assert said in page


def test_a_second_run_asks_nothing_and_says_the_same(command, capsys, monkeypatch):
    assert main(command("mini-videorefer-bench-q", "--json")) == 0
    first = json.loads(capsys.readouterr().out)

    def refuse(*args, **options):
        raise AssertionError("the model is not needed")

    monkeypatch.setattr(load, "load_sama", refuse)
    assert main(command("mini-videorefer-bench-q", "--json")) == 0
    assert json.loads(capsys.readouterr().out) == first


def test_the_table_for_people(command, capsys):
    assert main(command("mini-rvos")) == 0
    printed = capsys.readouterr().out
    assert "J&F" in printed and "published (Ref-YouTube-VOS" in printed and "index.html" in printed


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--data", "x.json"], "makes its own data"), (["--clips", "-1"], "give 1 or more")],
)
def test_what_a_twin_refuses(more, message, command, capsys):
    assert main(command("mini-rvos", *more)) == 2
    assert message in capsys.readouterr().err
