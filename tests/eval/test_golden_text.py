"""Parsers and caption metrics against the reference, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sama_plugin.eval import choices, clair, four_scores
from sama_plugin.eval.captions import (
    CaptionMetricsMissing,
    missing_parts,
    score_captions,
    score_groups,
    score_tokenised,
)
from sama_plugin.eval.sama_bench_g import cleaned
from tests.eval.golden import topics


def test_clair(sama_golden):
    for topic in topics(sama_golden, "clair_parse"):
        expected = {case["id"]: case for case in topic.read("expected")["cases"]}
        scores = []
        for case in topic.read("inputs"):
            replies, wanted = case["judge_replies_in_order"], expected[case["id"]]
            replies = [*replies, *[replies[-1]] * clair.TRIES]
            if "raises" in wanted:
                with pytest.raises(clair.NO_NUMBER) as caught:
                    clair.read_tries(replies)
                assert caught.type.__name__ == wanted["raises"], case["id"]
                continue
            verdict, used = clair.read_tries(replies)
            assert verdict.score == pytest.approx(wanted["score"], abs=topic.tolerance())
            assert (verdict.reason, used) == (wanted["reason"], wanted["calls_used"]), case["id"]
            scores.append(verdict.score)
        whole = topic.read("expected")["aggregate"]
        assert len(scores) == whole["cases_that_return_a_score"]
        mean = whole["mean_of_all_cases_that_return_a_score"]
        assert sum(scores) / len(scores) == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"score": 85, "reason": "x"}', 0.85),
        ('```json\n{"Score": "40"}\n```', 0.4),
        ('Sure: {"score": 66, "details": {"a": 1}} ok', 0.66),
        ('{"score": 90, "reason": "uses a } brace"}', 0.9),
        ('{"score": 0}', 0.0),
        ('{"score": 120}', None),
        ('{"score": 0.85}', None),
        ('{"score": true}', None),
        ('{"score": "high"}', None),
        ("On a scale from 0 to 100 I give 75.", None),
        ("", None),
    ],
)
def test_clair_strict(reply, score):
    assert clair.read_strict(reply).score == score


@given(st.text())
def test_strict_readers_never_raise(text):
    score = clair.read_strict(text).score
    assert score is None or 0 <= score <= 1
    assert all(v is None or 0 <= v <= 5 for v in four_scores.read_strict(text).values())
    assert choices.letter_strict(text, ["(A) x", "(B) y"]) in (None, "A", "B")


def test_letters(sama_golden):
    for topic in topics(sama_golden, "videorefer_q"):
        inputs, expected = topic.read("inputs"), topic.read("expected")
        wanted = {case["id"]: case for case in expected["letter_table"]}
        for case in inputs["letter_table"]:
            found = wanted[case["id"]]
            if "raises" in found:
                with pytest.raises(IndexError):
                    choices.letter_released(case["pred"])
                continue
            assert choices.target_letter(case["Answer"]) == found["gt_letter"]
            assert choices.letter_released(case["pred"]) == found["parsed"], case
            assert choices.right_released(case["Answer"], case["pred"]) == found["correct"]


def test_accuracy_of_a_result_file(sama_golden):
    for topic in topics(sama_golden, "videorefer_q"):
        items, expected = topic.read("inputs")["result_file"], topic.read("expected")["result_file"]
        right = [choices.right_released(item["Answer"], item["pred"]) for item in items]
        found = choices.accuracies([item["type"] for item in items], right)
        assert {k: (a.n, a.right) for k, a in found.items()} == {
            k: (v["n"], v["right"]) for k, v in expected["per_type"].items()
        }
        assert choices.micro_average(found) == pytest.approx(expected["micro_average"], abs=1e-12)
        assert choices.macro_average(found) == pytest.approx(expected["macro_average"], abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "letter"),
    [
        ("B", "B"),
        ("(b)", "B"),
        (" B.", "B"),
        ("**B**", "B"),
        ("\uff08B\uff09", "B"),
        ("B) jumps on the bed", "B"),
        ("The answer is B", "B"),
        ("Answer: (B)", "B"),
        ("Option B", "B"),
        ("Not (A), but (B)", "B"),
        ("Both A and B are possible, I choose (B)", "B"),
        ("jumps on the bed", "B"),
        ("Jumps on the bed.", "B"),
        ("A boy walks to the left", None),
        ("An object moves", None),
        ("Definitely the last one", None),
        ("(A) or (B)", None),
        ("E", None),
        ("I am not sure.", None),
        ("", None),
    ],
)
def test_strict_letters(prediction, letter):
    options = ["(A) walks to the left", "(B) jumps on the bed", "(C) sits down", "(D) stays still"]
    assert choices.letter_strict(prediction, options) == letter


def test_four_scores(sama_golden):
    for topic in topics(sama_golden, "videorefer_d"):
        inputs, expected = topic.read("inputs"), topic.read("expected")
        wanted = {case["id"]: case for case in expected["table"]}
        for case in inputs["table"]:
            found = four_scores.read_released(case.get("gpt"))
            assert (found is not None) == wanted[case["id"]]["v1_record_kept"], case["id"]
            empty = dict.fromkeys(four_scores.DIMENSIONS)
            assert wanted[case["id"]]["vl3_record_kept"], "that script keeps what v1 drops"
            assert (found or empty) == wanted[case["id"]]["scores"], case["id"]
            if found is not None:
                parsed = four_scores.parse_released(case["gpt"])
                assert parsed == wanted[case["id"]]["all_parsed_keys"], case["id"]


def test_four_scores_of_groups(sama_golden):
    for topic in topics(sama_golden, "videorefer_d"):
        inputs, expected = topic.read("inputs"), topic.read("expected")
        table = {case["id"]: case for case in inputs["table"]}
        for name, group in inputs["groups"].items():
            records = [table[one] if isinstance(one, str) else one for one in group]
            scores = [four_scores.read_released(record.get("gpt")) for record in records]
            kept = [one for one in scores if one is not None]  # v1 drops a bad record, vl3 does not
            for script, counted in (("v1", len(kept)), ("vl3", len(records))):
                wanted = expected["groups"][name][script]
                assert counted == wanted["records_after_extraction"], (name, script)
                check_average(four_scores.average(scores), wanted, topic.tolerance())


def check_average(found, wanted, tolerance):
    if "raises" in wanted:
        assert not all(found.counts.values())
        return
    assert found.average == pytest.approx(wanted["average"], abs=tolerance)
    for dimension in four_scores.DIMENSIONS:
        assert found.counts[dimension] == wanted[dimension]["n"]
        assert found.means[dimension] == pytest.approx(wanted[dimension]["mean"], abs=1e-9)


@pytest.mark.parametrize(
    "reply",
    [
        "1. **Subject Correspondence**: 4\n2. **Appearance Description:** 3\n"
        "3. Temporal Description: **2**\n- 4. hallucination detection - 5",
        '{"Subject Correspondence": 4, "Appearance Description": 3, '
        '"Temporal Description": 2, "Hallucination Detection": 5}',
        "1) Subject Correspondence: 4/5\n2) Appearance Description: Score: 3\n"
        "3.Temporal Description:2\n4. Hallucination Detection\uff1a 5",
    ],
)
def test_four_scores_strict(reply):
    assert list(four_scores.read_strict(reply).values()) == [4, 3, 2, 5]


def test_strict_scores_stay_in_range():
    text = "1. Subject Correspondence: 7\n2. Appearance Description: -1\n"
    text += "3. Temporal Description: 3.5.1"
    assert set(four_scores.read_strict(text).values()) == {None}


def needs_package():
    lacking = [part for part in missing_parts() if not part.startswith("Java")]
    if lacking:
        pytest.skip(f"not installed: {', '.join(lacking)}")


def test_tokenised_captions(sama_golden):
    needs_package()
    for topic in topics(sama_golden, "caption_metrics"):
        for name, corpus in topic.read("expected")["corpora"].items():
            found = score_tokenised(corpus["tokenised_reference"], corpus["tokenised_prediction"])
            for metric, value in found.corpus.items():
                assert value == pytest.approx(corpus["corpus"][metric], abs=1e-9), (name, metric)
            for row, wanted in zip(found.captions, corpus["per_caption"]):
                assert row == pytest.approx({m: wanted[m] for m in row}, abs=1e-9), name


def test_captions_by_java(sama_golden):
    """Every corpus of the golden captions, of GCG and of SAMA-Bench-G, for one start of Java."""
    if missing_parts():
        pytest.skip(f"not installed: {', '.join(missing_parts())}")
    captions, pictures, dialogues = (
        topics(sama_golden, name) for name in ("caption_metrics", "gcg_metrics", "sama_bench_g")
    )
    groups = {
        (str(topic.folder), name): columns(pairs, "reference", "prediction")
        for topic in captions
        for name, pairs in topic.read("inputs").items()
    }
    for topic in pictures:
        answered = [r for r in topic.read("inputs").values() if r.get("pred_caption")]
        groups[str(topic.folder), ""] = columns(answered, "gt_caption", "pred_caption")
    for topic in dialogues:
        for video, records in topic.read("inputs").items():
            sides = columns(records, "gt_text", "pred_text")
            groups[str(topic.folder), video] = tuple(list(map(cleaned, side)) for side in sides)
    scores = score_groups(groups)
    for topic in pictures:
        found = scores[str(topic.folder), ""].corpus
        assert found == pytest.approx(topic.read("expected")["caption"], abs=1e-6)
    for topic in captions:
        found = {name: scores[str(topic.folder), name] for name in topic.read("inputs")}
        check_corpora(topic.read("expected"), found)
    for topic in dialogues:
        for video, wanted in topic.read("expected")["videos"].items():
            check_dialogue(wanted, scores[str(topic.folder), video], video)


def columns(records, *names):
    return tuple([record[name] for record in records] for name in names)


def check_dialogue(wanted, found, video):
    details = wanted["caption_details"]
    assert found.corpus == pytest.approx(wanted["caption_scores"], abs=1e-6), video
    for side, texts in (("reference", found.references), ("prediction", found.predictions)):
        assert [[text] for text in texts] == list(details[f"tokenised_{side}"].values()), video
    for row, question in zip(found.captions, details["per_question"]):
        assert row == pytest.approx(question, abs=1e-6), video


def check_corpora(expected, scores):
    for name, wanted in expected["corpora"].items():
        assert scores[name].references == wanted["tokenised_reference"], name
        assert scores[name].predictions == wanted["tokenised_prediction"], name
        assert scores[name].corpus == pytest.approx(wanted["corpus"], abs=1e-6), name
    videos = [s.corpus for name, s in scores.items() if name.startswith("region_video")]
    for metric, value in expected["region_caption_average_over_videos"].items():
        mean = sum(video[metric] for video in videos) / len(videos)
        assert mean == pytest.approx(value, abs=1e-6), metric


def test_no_java_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CaptionMetricsMissing, match="Java"):
        score_captions(["a"], ["a"])
    assert any(part.startswith("Java") for part in missing_parts())
