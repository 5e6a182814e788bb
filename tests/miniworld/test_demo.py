"""The demo's script, page and report, on a mini without training."""

from __future__ import annotations

import json
import shutil

import pytest

from sama_plugin.infer.page import ConversationView, TurnView
from sama_plugin.infer.regions import MENTION
from sama_plugin.infer.session import VideoSession
from sama_plugin.miniworld import demo, script
from sama_plugin.miniworld.demo_page import gallery, loss_curve, score_table, with_truth
from sama_plugin.miniworld.evaluate import METRICS
from sama_plugin.miniworld.scene import SceneFolder
from sama_plugin.miniworld.things import FPS
from tests.infer.conftest import grammar, sama  # noqa: F401


def pointed_and_grounded(turns):
    """A short search for the tests."""
    return turns[0].kind == "point" and len(turns[0].targets) > 1


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A script whose first turn points at a thing and grounds two."""
    scenes = SceneFolder(tmp_path_factory.mktemp("scenes"), "heldout")
    return script.find_script(scenes, "test", pointed_and_grounded, 7)


def scores(value, n=10):
    """`evaluate(...)` of a model that is equally good at everything."""
    low, high = max(0.0, value - 0.1), min(1.0, value + 0.1)
    one = {"value": value, "n": n, "low": low, "high": high, "kinds": {}}
    return {
        "scores": dict.fromkeys(METRICS, one),
        "encodes_per_frame": 1.0,
        "clips": n,
        "peak_rss_gb": 1.0,
    }


def test_a_script_is_the_same_every_time(found, tmp_path):
    again = script.find_script(SceneFolder(tmp_path, "heldout"), "test", pointed_and_grounded, 7)
    assert (again.regions, again.lines) == (found.regions, found.lines)


def test_a_script_mentions_what_is_named_and_ends_on_an_earlier_mask(found):
    mentioned = [name for line in found.lines for name in MENTION.findall(line.question)]
    assert set(mentioned[:-1]) == set(found.regions)
    place = int(mentioned[-1].split(".")[0])
    assert found.lines[place - 1].targets
    assert all("[SEG]" not in line.answer for line in found.lines)


def test_playing_a_script_measures_masks(sama, found):  # noqa: F811
    from sama_plugin.media.video import open_video

    with VideoSession(sama, open_video(found.scene.media.source, fps=FPS)) as session:
        outcomes = script.play(session, found, max_new_tokens=16)
        assert len(session.turns) == len(found.lines)
    assert all(0 <= outcome.iou <= 1 for outcome in outcomes)
    view = ConversationView("t", turns=tuple(TurnView("q", "a") for _ in outcomes))
    shown = with_truth(view, outcomes)
    assert [turn.truth.split("  ")[0] for turn in shown.turns] == [
        f"truth: {line.answer}" for line in found.lines
    ]


def test_a_question_about_a_mask_that_was_not_made_is_left_out(sama, found, monkeypatch):  # noqa: F811
    from sama_plugin.media.video import open_video
    from sama_plugin.model import generate

    end = sama.tokenizer.eos_token_id
    monkeypatch.setattr(generate, "_chooser", lambda sampling, device: lambda logits, new: end)
    with VideoSession(sama, open_video(found.scene.media.source, fps=FPS)) as session:
        outcomes = script.play(session, found)
    assert "not named" in outcomes[-1].failure
    assert len(session.turns) == len(found.lines) - 1


@pytest.mark.parametrize("value, text", [(0.5, "50.0"), (1.0, "100.0"), (float("nan"), "\u2013")])
def test_score_table(value, text):
    html = score_table(scores(0.0)["scores"], scores(value)["scores"])
    assert html.count(f"<b>{text}</b>") == len(METRICS)
    assert "nan" not in html


def test_loss_curve():
    history = [{"step": 10 * n, "loss": 5.0 - n, "loss_text": 3.0 - n / 2} for n in range(1, 5)]
    html = loss_curve([*history, {"train_runtime": 1.0}])
    assert html.count("<polyline") == 1 and "nan" not in html
    assert loss_curve(history[:1]) == "" == gallery([])


REPORT_KEYS = {
    *("before", "after", "aggregator_gain", "train_seconds", "total_seconds", "peak_rss_gb"),
    *("encodes_per_frame", "seeds", "versions"),
}


@pytest.mark.parametrize("real", [True, False])
def test_the_demo_writes_report_and_page(found, tmp_path, monkeypatch, real, capsys):
    def teach(options, out):
        shutil.copytree(demo.fresh_adapter(tmp_path / "fresh"), out / "sama_adapter")
        return demo.Lesson(out / "sama_adapter", [], 1.0)

    monkeypatch.setattr(demo, "teach", teach)
    monkeypatch.setattr(demo, "evaluate", lambda *_, **__: scores(0.5))
    monkeypatch.setattr(demo, "scripts", lambda scenes: [found])
    monkeypatch.delenv("SAMA_DATA", raising=False)
    video = found.scene.media.source if real else None
    page = demo.run_demo(demo.DemoOptions(tmp_path / "out", video=video and demo.Path(video)))
    report = json.loads((page.parent / "report.json").read_text())
    assert set(report) == REPORT_KEYS
    assert set(report["before"]) == set(report["after"]) == set(METRICS)
    html = page.read_text(encoding="utf-8")
    assert ("Skipped" in html) is not real
    assert (page.parent / "talk-1" / "conversation.json").is_file()
    assert (page.parent / "talk-real" / "conversation.json").is_file() is real
