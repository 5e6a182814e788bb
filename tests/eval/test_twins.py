"""`sama eval mini-...`: every twin from made-up clips to its page, with an untrained model."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
import torch

from sama_plugin.cli import main
from sama_plugin.cli.eval import TWINS
from sama_plugin.dialog.sample import Region
from sama_plugin.errors import RegionError
from sama_plugin.eval import harness
from sama_plugin.eval.asking import answer_cases
from sama_plugin.eval.benchmarks import Selection
from sama_plugin.eval.cases import Case
from sama_plugin.infer import load, together
from sama_plugin.infer.grounding import Grounder
from sama_plugin.infer.session import VideoSession
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.miniworld.benchmarks import SAMA_BENCH_G
from sama_plugin.model import generate
from sama_plugin.model.attach import attach
from tests.model.conftest import outspoken, tiny_config


@pytest.fixture(scope="module")
def tiny_sama():
    from sama_plugin.miniworld.host import tiny_host

    return outspoken(attach(*tiny_host(seed=0), tiny_config()))


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
    assert not summary["material"]["questions_not_read"]["count"]
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
    assert "J&F" in printed and "index.html" in printed
    assert "published" not in printed, "others' numbers are of real data"


def test_two_runs_are_compared(command, tmp_path, capsys):
    assert main(command("mini-rvos")) == 0
    capsys.readouterr()
    folder = str(tmp_path / "mini-rvos")
    assert main(["eval", "compare", folder, folder]) == 0
    assert "J&F" in capsys.readouterr().out
    assert main(["eval", "compare", folder, folder, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["difference"]["difference"] for row in rows} == {0.0}


def test_a_dialogue_is_held_once_and_equals_a_fresh_one(tiny_sama, tmp_path, monkeypatch):
    """Every question with the turns before it: going on equals asking everything again."""
    SAMA_BENCH_G.make(tmp_path, 1)
    cases = harness.read_material(
        SAMA_BENCH_G.suite,
        tmp_path / SAMA_BENCH_G.file,
        tmp_path,
        selection=Selection(history=True),
        limit=3,
    ).cases
    assert [len(case.sample.turns) for case in cases] == [1, 2, 3]
    before, conversations, ask = [], [], VideoSession.ask

    def remembers(self, text, **options):
        before.append(len(self.turns))
        answer = ask(self, text, **options)
        conversations.append(self.ids)
        return answer

    monkeypatch.setattr(VideoSession, "ask", remembers)
    settings = {"masks": True, "max_new_tokens": 4}
    together = list(answer_cases(tiny_sama, cases, **settings))
    assert before == [0, 1, 2]
    held = list(conversations)
    apart = [one for case in cases for one in answer_cases(tiny_sama, [case], **settings)]
    assert before[3:] == [0, 0, 1, 0, 1, 2]
    assert [conversations[place] for place in (3, 5, 8)] == held
    plain = [{**one.to_json(), "seconds": 0} for one in (*together, *apart)]
    assert plain[:3] == plain[3:] and not together[0].error


@pytest.fixture(scope="module")
def clip_cases(tmp_path_factory):
    """Four questions of the benchmark about one clip, each by itself."""
    folder = tmp_path_factory.mktemp("clip")
    SAMA_BENCH_G.make(folder, 1)
    file = folder / SAMA_BENCH_G.file
    return harness.read_material(SAMA_BENCH_G.suite, file, folder, limit=4).cases


@pytest.fixture
def talkative(tiny_sama, monkeypatch):
    """An untrained model that grounds its second word, so that there are masks to compare."""

    def chooser(sampling, device):
        def choose(logits, new):
            return tiny_sama.ids.seg if len(new) == 1 else int(logits[:90].argmax())

        return choose

    monkeypatch.setattr(generate, "_chooser", chooser)


ASKING = {"masks": True, "max_new_tokens": 5}


def told(predictions):
    """Words and masks; scores apart, whose last digit depends on the shapes that are multiplied."""
    predictions = list(predictions)
    plain = [(p.key, p.error, p.text, p.phrases, [t.rles for t in p.tracks]) for p in predictions]
    scores = [list(t.scores.values()) for p in predictions for t in p.tracks]
    return plain, scores


def test_questions_in_one_batch_are_answered_as_alone(tiny_sama, clip_cases, talkative):
    alone = [one for case in clip_cases for one in answer_cases(tiny_sama, [case], **ASKING)]
    wanted, scores = told(alone)
    assert len(scores) == len(clip_cases) == 4 and not any(one.error for one in alone)
    for most in (3, 16):
        found, near = told(answer_cases(tiny_sama, clip_cases, together=most, **ASKING))
        assert found == wanted
        assert near == [pytest.approx(one, abs=1e-3) for one in scores]


def test_a_clip_is_spoken_and_tracked_in_one_pass(tiny_sama, clip_cases, talkative, monkeypatch):
    tracked, spoken, ground = [], [], Grounder.ground
    speak = together.generate_together

    def grounds(self, states, shown, plan, **options):
        tracked.append(len(states))
        return ground(self, states, shown, plan, **options)

    def speaks(sama, requests, **options):
        spoken.append(len(requests))
        return speak(sama, requests, **options)

    monkeypatch.setattr(Grounder, "ground", grounds)
    monkeypatch.setattr(together, "generate_together", speaks)
    list(answer_cases(tiny_sama, clip_cases, **ASKING))
    assert spoken == tracked == [len(clip_cases)]


@pytest.mark.parametrize("fails", ["before", "while tracking"])
def test_a_case_that_fails_fails_alone(fails, tiny_sama, clip_cases, talkative, monkeypatch):
    """One bad case among good ones: the good ones are answered as if it were not there."""
    alone = [answer_cases(tiny_sama, [case], **ASKING) for case in clip_cases]
    wanted = [told(found)[0] for found in alone]
    cases, bad = list(clip_cases), clip_cases[2].key
    if fails == "before":
        cases[2] = outside_the_frame(cases[2])
    else:
        break_grounding(monkeypatch, tiny_sama, cases[2])
    found = list(answer_cases(tiny_sama, cases, **ASKING))
    assert [one.key for one in found] == [case.key for case in cases]
    for one, good in zip(found, wanted):
        if one.key == bad:
            assert one.error.startswith("RegionError") and not one.text and not one.tracks
        else:
            assert told([one])[0] == good


def outside_the_frame(case):
    """The same question about a region that lies beside the picture."""
    region = Region((RegionPrompt.from_box(0, (9000, 9000, 9010, 9010)),))
    turn = dataclasses.replace(case.sample.turns[0], user="What is <region>?", regions=(region,))
    return Case(case.key, dataclasses.replace(case.sample, turns=(turn,)))


def break_grounding(monkeypatch, sama, case):
    """Tracking fails whenever the state that `case` gives is among the states."""
    ground, bad = Grounder.ground, []

    def grounds(self, states, shown, plan, **options):
        if not bad:
            bad.append(states[0])
        if any(torch.allclose(state, bad[0], atol=1e-4) for state in states):
            raise RegionError("no such thing")
        return ground(self, states, shown, plan, **options)

    monkeypatch.setattr(Grounder, "ground", grounds)
    assert next(answer_cases(sama, [case], **ASKING)).error
