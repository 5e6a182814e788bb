"""Runs that are killed and resumed, failing cases, comparison, and what the summary says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sama_plugin.dialog.sample import Media, Region, Sample, Target, Turn
from sama_plugin.errors import ConfigError, DataError
from sama_plugin.eval import harness, published, report
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import SUITES, Means
from sama_plugin.eval.benchmarks.videorefer_bench_q import options_of
from sama_plugin.eval.cases import make_cases
from sama_plugin.eval.compare import compare, other_means, table
from sama_plugin.eval.intervals import Part, difference, estimate
from sama_plugin.eval.judge import NoJudge, Reply, Usage
from sama_plugin.eval.phrases import word_overlap
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.eval.track_ious import track_ious
from sama_plugin.eval.tubes import iou_matrix
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack

SETTINGS = {"benchmark": "test", "model": "none", "data_sha256": "0"}


def square(place, size=4, frames=3):
    masks = np.zeros((frames, 12, 16), bool)
    masks[:, place : place + size, place : place + size] = True
    return MaskTrack.from_masks(masks)


def choice(name, video, letter="B", kind="Basic"):
    text = "What does <region> do? (A) walks (B) jumps (C) sits (D) flies. Answer with the "
    text += "option's letter from the given choices directly."
    prompt = RegionPrompt.from_box(0, (1, 1, 5, 5))
    turn = Turn(text, letter, (Region((prompt,)),))
    return Sample(name, Media("video", video), (turn,), tags=(kind,))


def grounded(name, video, track):
    turn = Turn("Where?", "<p> the dog </p> [SEG] runs.", (), (Target("the dog", track),))
    return Sample(name, Media("video", video), (turn,))


def material(samples):
    cases, doubled = make_cases(samples)
    return harness.Material(cases, doubled, [])


def means(judge=None):
    return Means(judge or NoJudge(), word_overlap, "words")


CHOICES = [choice(str(n), f"clip{n % 4}", "ABCD"[n % 4]) for n in range(12)]


def answer_b(cases):
    for case in cases:
        yield Prediction(case.key, text="B", plain="B")


def run(out, answer=answer_b, name="videorefer-bench-q", found=None):
    found = found or material(CHOICES)
    predictions = harness.predict(found, answer, out, SETTINGS)
    return harness.score(name, found, predictions, means(), out, SETTINGS)


def test_killed_at_every_point_and_resumed(tmp_path):
    whole = run(tmp_path / "whole")
    asked = []
    for stop in range(len(CHOICES)):

        def dies(cases, stop=stop):
            for prediction in answer_b(cases):
                if len(asked) == stop:
                    raise KeyboardInterrupt
                asked.append(prediction.key)
                yield prediction

        def counts(cases):
            for prediction in answer_b(cases):
                asked.append(prediction.key)
                yield prediction

        asked.clear()
        out = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            run(out, dies)
        assert run(out, counts) == whole
        assert sorted(asked) == sorted(case.key for case in material(CHOICES).cases)


def test_each_video_is_opened_once(tmp_path):
    groups = []

    def remembers(cases):
        groups.append({case.video for case in cases})
        yield from answer_b(cases)

    run(tmp_path, remembers)
    assert groups == [{f"clip{n}"} for n in range(4)]


def test_another_run_in_the_folder_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(ConfigError, match="another run"):
        harness.predict(material(CHOICES), answer_b, tmp_path, {**SETTINGS, "model": "big"})
    with pytest.raises(DataError, match="does not have"):
        harness.predict(material(CHOICES[:3]), answer_b, tmp_path, SETTINGS)


def test_summary_of_choices(tmp_path):
    summary = run(tmp_path)
    rows = {(row["metric"], row["reading"]): row for row in summary["metrics"]}
    assert rows["accuracy", "released"]["value"] == pytest.approx(0.25)
    assert rows["accuracy", "corrected"]["n"] == 12
    assert rows["accuracy", "corrected"]["kinds"]["Basic"]["n"] == 12
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    printed = report.text(summary)
    assert "12 cases in 4 videos" in printed and "0.250" in printed


def test_failures_and_doubles_are_counted_never_dropped(tmp_path):
    def fails(cases):
        for case in cases:
            yield Prediction(case.key, error="MediaError: cannot read")

    found = material([CHOICES[0], CHOICES[0], CHOICES[1]])
    assert [case.key for case in found.cases] == ["0", "0#2", "1"] and found.doubled == ["0"]
    summary = run(tmp_path, fails, found=found)
    assert summary["failures"]["count"] == 3
    assert summary["counts"]["cases failed, scored as empty answers"] == 3
    assert {row["value"] for row in summary["metrics"]} == {0.0}
    assert {row["n"] for row in summary["metrics"]} == {3}
    assert "ids occur more than once" in report.text(summary)


def test_a_file_without_usable_records_is_an_error(tmp_path):
    file = tmp_path / "q.json"
    file.write_text(json.dumps([{"id": 0, "video": "nowhere.mp4"}]))
    with pytest.raises(DataError, match="no usable record.*the first"):
        harness.read_material("videorefer-bench-q", file, tmp_path)


def test_grounding_in_both_readings(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no Java: caption metrics are named as missing, not 0
    found = material([grounded("a", "v", square(1)), grounded("b", "v", square(2))])

    def answers(cases):
        extra = square(6)
        yield Prediction("a", "<p> the dog </p> [SEG]", "the dog", ("the dog",), (square(1),))
        yield Prediction("b", "two [SEG] [SEG]", "two", ("", ""), (square(2), extra))

    summary = run(tmp_path, answers, "sama-bench-g", found)
    rows = {(row["metric"], row["reading"]): row["value"] for row in summary["metrics"]}
    assert rows == {
        ("mIoU", "released"): 1.0,
        ("mIoU", "corrected"): 0.75,
        ("Recall", "released"): 1.0,
        ("Recall", "corrected"): 0.5,
    }
    assert summary["counts"]["questions the released Recall skips"] == 1
    assert set(summary["not_computed"]) == {"BLEU, METEOR, ROUGE-L, CIDEr", "CLAIR"}
    assert "not computed" in report.text(summary)


class Scripted:
    """A judge with ready replies."""

    name = "scripted"

    def __init__(self, *replies):
        self.usage, self.replies = Usage(), list(replies)

    def ask(self, question):
        return Reply(self.replies.pop(0) if self.replies else None)


def test_four_scores_count_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    found = material([grounded(name, "v", square(1)) for name in "abc"])
    good = "1. Subject Correspondence: 4\n2. Appearance Description: 3\n"
    good += "3. Temporal Description: 2\n4. Hallucination Detection: 5"
    bold = good.replace("Temporal Description", "**Temporal Description**")
    predictions = {name: Prediction(name, plain="a dog") for name in "abc"}
    board = SUITES.get("videorefer-bench-d").score(
        found.cases, predictions, means(Scripted(good, bold))
    )
    assert board.counts["not judged"] == 1
    assert board.counts["dimensions unparsed (released)"] == 1
    rows = {(row["metric"], row["reading"]): row for row in board.summary()}
    assert rows["TD", "released"]["n"] == 1 and rows["TD", "corrected"]["n"] == 2
    assert rows["average", "corrected"]["value"] == pytest.approx(3.5)


@pytest.mark.parametrize(
    "reply", ["Ich gebe vier von f\u00fcnf.", "\u56db\u5206", "", "{}", "I cannot judge this."]
)
def test_a_judge_that_never_parses_is_counted_never_zero(reply, monkeypatch):
    monkeypatch.setenv("PATH", "")
    found = material([grounded(name, f"v{name}", square(1)) for name in "abc"])
    predictions = {name: Prediction(name, text="a dog", plain="a dog") for name in "abc"}

    class Same(Scripted):
        def ask(self, question):
            return Reply(reply)

    judged = SUITES.get("videorefer-bench-d").score(found.cases, predictions, means(Same()))
    assert judged.counts["dimensions unparsed (corrected)"] == 3 * 4 and not judged.parts
    assert "HD (corrected)" in judged.missing and "average (corrected)" in judged.missing
    clair = SUITES.get("sama-bench-c").score(found.cases, predictions, means(Same()))
    assert clair.counts["judge replies unparsed"] == 3
    assert ("CLAIR", "corrected") not in clair.parts and "CLAIR (corrected)" in clair.missing


def test_clair_in_both_readings(monkeypatch):
    """Released: not clipped, free text counts, a score that is no number costs its whole video."""
    monkeypatch.setenv("PATH", "")
    replies = {"a": '{"score": 80}', "b": '{"score": null}', "c": '{"score": 150}', "d": "I say 30"}
    found = material([grounded(name, f"v{name in 'cd'}", square(1)) for name in replies])

    class ByCase(Scripted):
        def ask(self, question):
            return Reply(
                next(said for name, said in replies.items() if f"of {name}" in question.user)
            )

    answers = {name: Prediction(name, text=f"a dog of {name}") for name in replies}
    board = SUITES.get("sama-bench-c").score(found.cases, answers, means(ByCase()))
    released, corrected = (board.parts["CLAIR", one] for one in ("released", "corrected"))
    assert {video: part.value for video, part in released.items()} == {
        "vFalse": 0.0,
        "vTrue": pytest.approx((1.5 + 0.3) / 2),
    }
    assert {key: part.value for key, part in corrected.items()} == {"a": 0.8}
    assert board.counts["judge replies unparsed"] == 3


def test_options_are_read_back():
    assert options_of(CHOICES[0].turns[0].user) == [
        "(A) walks",
        "(B) jumps",
        "(C) sits",
        "(D) flies",
    ]


def test_compare_is_paired(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b", lambda cases: (Prediction(c.key, plain="C") for c in cases))
    run(
        tmp_path / "c",
        lambda cases: (Prediction(c.key, plain=c.sample.turns[0].assistant) for c in cases),
    )
    (same, *_) = compare(tmp_path / "a", tmp_path / "a")
    assert same.difference.difference == 0 and same.difference.p == 1
    better = compare(tmp_path / "a", tmp_path / "c")
    assert better[0].difference.difference == pytest.approx(0.75) and "accuracy" in table(better)
    assert other_means(tmp_path / "a", tmp_path / "c") == []
    with pytest.raises(ConfigError, match="no results"):
        compare(tmp_path / "a", tmp_path / "nothing")
    summary = tmp_path / "c" / "summary.json"
    whole = summary.read_text()
    for changed, said in (
        ({"data_sha256": "1"}, r"data file \(data_sha256: 0 and 1\)"),
        ({"beside_sha256": {"m.json": "1"}}, r"beside it \(beside_sha256 of m.json: None and 1\)"),
    ):
        found = json.loads(whole)
        found["settings"].update(changed)
        summary.write_text(json.dumps(found))
        with pytest.raises(ConfigError, match=f"differ in .*{said}"):
            compare(tmp_path / "a", tmp_path / "c")
    found = json.loads(whole)
    found["settings"]["mode"], found["judge"]["name"] = "single", "a-judge"
    found["notes"].append("S-Sim: words")
    summary.write_text(json.dumps(found))
    told = other_means(tmp_path / "a", tmp_path / "c")
    assert sorted(one.split(":")[0] for one in told) == ["judge", "mode", "notes"]
    assert "judge: none and a-judge" in told
    summary.write_text(whole)
    for file, content in (("scores.jsonl", "{"), ("scores.jsonl", None), ("summary.json", "[]")):
        path = tmp_path / "c" / file
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(ConfigError, match=f"c holds no results.*{file}"):
            compare(tmp_path / "a", tmp_path / "c")


def test_intervals():
    rng = np.random.default_rng(0)
    parts = [Part(f"v{n % 50}", float(value)) for n, value in enumerate(rng.random(500))]
    found = estimate(parts)
    assert found.low < found.value < found.high and (found.n, found.videos) == (500, 50)
    assert found == estimate(list(reversed(parts)))
    one = {str(n): part for n, part in enumerate(parts)}
    other = {key: Part(part.video, part.value + 0.05) for key, part in one.items()}
    paired = difference(one, other)
    assert paired.difference == pytest.approx(0.05) == paired.low and paired.p == 0
    assert difference(one, {}) is None and np.isnan(estimate([]).value)


def test_one_video_gives_no_interval():
    """Drawn again and again it is always the same, which would look like certainty."""
    one, other = ({str(n): Part("v", x + n) for n in range(9)} for x in (0.0, 0.1))
    alone = estimate(list(one.values()))
    assert alone.value == 4 and np.isnan([alone.low, alone.high]).all()
    paired = difference(one, other)
    assert paired.difference == pytest.approx(0.1)
    assert np.isnan([paired.low, paired.high, paired.p]).all()


def test_a_kind_without_weight_is_null_in_the_summary():
    board = Scoreboard()
    board.add("cIoU", "corrected", "a", "v", 0.5, 2.0, "there")
    board.add("cIoU", "corrected", "b", "w", 0.0, 0.0, "nothing there")
    (row,) = json.loads(json.dumps(harness.finite(board.summary()), allow_nan=False))
    assert row["value"] == 0.5 and row["kinds"]["nothing there"] == {"value": None, "n": 1}
    assert report._value(row["kinds"]["nothing there"]).strip() == "none"


def test_what_json_cannot_hold_is_null():
    found = harness.finite({"a": [float("nan"), float("inf"), 1.5], "b": float("-inf")})
    assert found == {"a": [None, None, 1.5], "b": None}


def test_a_key_is_given_once_even_where_an_id_looks_like_one():
    cases, doubled = make_cases([choice(name, "v") for name in ("a", "a", "a#2", "a", "a#2")])
    assert [case.key for case in cases] == ["a", "a#3", "a#2", "a#4", "a#2#2"]
    assert doubled == ["a", "a#2"]


@given(st.integers(0, 10**6))
def test_iou_of_run_lengths_equals_that_of_pixels(seed):
    rng = np.random.default_rng(seed)
    sides = [rng.random((2, 3, 7, 9)) < share for share in rng.random(2)]
    sides[0][0, 1] = False  # nothing there on one frame
    tracks = [[MaskTrack.from_masks(tube) for tube in side] for side in sides]
    assert np.array_equal(track_ious(*tracks), iou_matrix(*sides))


def test_frame_by_frame_iou_equals_that_of_whole_tubes():
    tracks = [square(place, size) for place, size in ((0, 3), (2, 5), (6, 4))]
    wanted, found = tracks[:2], tracks
    tubes = [[track.tube(range(3)) for track in side] for side in (wanted, found)]
    assert track_ious(wanted, found) == pytest.approx(iou_matrix(*tubes))
    with pytest.raises(DataError, match="different clips"):
        track_ious(wanted, [square(0, frames=2)])


def test_word_overlap():
    table = word_overlap(["the red dog", "a cat"], ["a red dog", "the dog"])
    assert table == pytest.approx(np.array([[1, 2 / 3], [0, 0]]))


def test_published_numbers():
    file = published.default_file()
    found = published.load_published(file)
    assert {SUITES.get(name).PUBLISHED for name in SUITES.names()} <= set(found.benchmarks)
    assert "unknown" in published.table(found, "sama_bench_g")
    assert found.refused and "80.1" in published.table(found, "videorefer_bench_q")
    entries = [entry for bench in found.benchmarks.values() for entry in bench.entries]
    assert 56.8 not in {value for entry in entries for value in entry.values.values()}
    own = [entry for entry in entries if re.match("SAMA($|[- ])", entry.model)]
    assert len(own) == 6 and {value for entry in own for value in entry.values.values()} == {
        None
    }, "no number of SAMA's own tables could be verified; those in circulation are invented"


def test_published_numbers_name_a_known_source(tmp_path: Path):
    file = tmp_path / "p.yaml"
    file.write_text(
        "benchmarks: {x: {name: X, unit: u, protocol: p, entries: [{model: M, source: s}]}}"
    )
    with pytest.raises(ConfigError, match="unknown source 's'"):
        published.load_published(file)
