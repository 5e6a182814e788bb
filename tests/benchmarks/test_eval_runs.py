"""The evaluator's benchmarks on a small scale: they run, and what must be equal is equal."""

from __future__ import annotations

import sys

from benchmarks import eval_memory, eval_reuse
from sama_plugin.miniworld.host import tiny_host
from sama_plugin.model.attach import attach
from tests.model.conftest import tiny_config


def test_memory_of_perfect_answers(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["eval_memory.py", "--cases", "12", "--frames", "3"])
    assert eval_memory.main() == 0
    assert "mIoU 1\n" in capsys.readouterr().out


def test_grouped_answers_are_those_of_single_sessions(monkeypatch, capsys):
    monkeypatch.setattr(eval_reuse, "untrained", lambda: attach(*tiny_host(seed=0), tiny_config()))
    monkeypatch.setattr(eval_reuse, "AIM", 0.0)  # nothing is timed here
    flags = ["--untrained", "--questions", "3", "--max-new-tokens", "3"]
    monkeypatch.setattr(sys, "argv", ["eval_reuse.py", *flags])
    assert eval_reuse.main() == 0
    assert "answers identical" in capsys.readouterr().out
