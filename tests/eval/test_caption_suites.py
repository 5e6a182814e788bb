"""GCG and the region captions from their files to their numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sama_plugin.data.formats import sama
from sama_plugin.dialog.sample import Media, Sample, Target, Turn
from sama_plugin.eval import harness
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import SUITES, Means, captioning, gcg, region_categories
from sama_plugin.eval.captions import CaptionScores
from sama_plugin.eval.cases import Case
from sama_plugin.eval.hashes import path_hash
from sama_plugin.eval.judge import NoJudge
from sama_plugin.eval.phrases import word_overlap
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.media.masks import encode
from sama_plugin.media.tracks import MaskTrack
from tests.eval.golden import topics

MEANS = Means(NoJudge(), word_overlap, "words")


def java_of_its_own(groups):
    """Captions as Java would score them, one word a caption."""
    return {
        name: CaptionScores({"METEOR": len(wanted)}, [{"METEOR": len(said)} for said in found])
        for name, (wanted, found) in groups.items()
    }


def test_captions_have_types_and_a_corpus_of_every_video(monkeypatch):
    """Released: each video alone, mean over videos. Corrected: captions of one corpus."""
    monkeypatch.setattr(captioning, "score_groups", java_of_its_own)
    turn, cases = Turn("?", "a dog"), []
    for number, video in enumerate("aab"):
        tags = (f"of {video}",)
        sample = Sample(str(number), Media("video", f"{video}.mp4"), (turn,), tags=tags)
        cases.append(Case(str(number), sample))
    board = Scoreboard()
    texts = {case.key: ("a dog", "x" * (1 + int(case.key))) for case in cases}
    captioning.add_captions(board, cases, texts, readings=("released", "corrected"))
    rows = {row["reading"]: row for row in board.summary()}
    assert (rows["released"]["value"], rows["released"]["n"]) == (1.5, 2)
    assert (rows["corrected"]["value"], rows["corrected"]["n"]) == (2, 3)
    assert rows["corrected"]["kinds"]["of a"] == {"value": 1.5, "n": 2}
    assert rows["released"]["kinds"]["of a"] == {"value": 2, "n": 1}


@pytest.fixture(autouse=True)
def no_java(monkeypatch):
    monkeypatch.setenv("PATH", "")  # caption metrics have tests of their own


def numbers(board):
    return {(row["metric"], row["reading"]): row["value"] for row in board.summary()}


def square(place, size=8, height=20, width=24):
    mask = np.zeros((height, width), bool)
    mask[place : place + size, place : place + size] = True
    return mask


def picture(folder, name="a.jpg", height=20, width=24):
    Image.new("RGB", (width, height)).save(folder / name)


class TestGcg:
    def test_training_layouts(self, sama_data):
        folder = sama_data / "seeds" / "gcg"
        for file in ("GranDf_HA_GCG_train.json", "RefCOCOg_GCG_train.json"):
            found = harness.read_material("gcg", folder / file, sama_data / "images")
            answers = {
                c.key: Prediction(
                    c.key,
                    c.sample.turns[0].assistant,
                    phrases=tuple(t.phrase for t in c.sample.turns[0].targets),
                    tracks=tuple(t.track for t in c.sample.turns[0].targets),
                )
                for c in found.cases
            }
            values = numbers(SUITES.get("gcg").score(found.cases, answers, MEANS))
            for metric in ("mIoU", "Recall"):
                assert values[metric, "released"] == values[metric, "corrected"] == 1, file
            assert values["AP50", "released"] == pytest.approx(1)

    def test_evaluation_layout_gives_the_reference_numbers(self, sama_golden, tmp_path):
        for topic in topics(sama_golden, "gcg_metrics"):
            inputs, expected = topic.read("inputs"), topic.read("expected")
            names = {
                "captions": "val_gcg_coco_caption_gt.json",
                "masks": "val_gcg_coco_mask_gt.json",
            }
            for part, file in names.items():
                (tmp_path / file).write_text(json.dumps(topic.read(f"gt_coco_{part}")))
            for name in inputs:
                picture(tmp_path, f"{name}.jpg")
            found = harness.read_material("gcg", tmp_path / names["captions"], tmp_path)
            assert not found.bad and {case.key for case in found.cases} == set(inputs)
            answers, tables = {}, {}
            for key, record in inputs.items():
                tracks = (MaskTrack(rle["size"], 1, {0: rle}) for rle in record["pred_masks"])
                phrases = tuple(f"{key}/{n}" for n in range(len(record["pred_labels"])))
                text = "".join(f"<p> {phrase} </p>" for phrase in phrases)
                answers[key] = Prediction(key, text, phrases=phrases, tracks=tuple(tracks))
                tables[key] = record

            def similarity(wanted, said, tables=tables):
                """The reference's matrix, found by the labels of the image."""
                for record in tables.values():
                    if [label.strip().lower() for label in record["gt_labels"]] == wanted:
                        shape = len(wanted), len(said)
                        return np.array(record["phrase_similarity_gt_by_pred"], float).reshape(
                            shape
                        )
                raise AssertionError(wanted)

            board = gcg.score(found.cases, answers, Means(NoJudge(), similarity, "given"))
            values = numbers(board)
            assert values["mIoU", "released"] == pytest.approx(expected["mIoU"], abs=1e-9)
            assert values["Recall", "released"] == pytest.approx(expected["Recall"], abs=1e-9)
            for name, value in expected["segm"].items():
                assert values[name, "released"] == pytest.approx(value, abs=1e-9), name

    def test_the_masks_beside_the_captions_are_part_of_the_run(self, tmp_path):
        rle, shared = encode(square(1)), {"image_id": "a"}
        tables = {"images": [{"id": "a", "height": 20, "width": 24}], "categories": []}
        caption = {"id": 1, **shared, "caption": "A dog.", "labels": ["a dog"]}
        rows = {"caption": [caption], "mask": [{"id": 1, **shared, "segmentation": rle}]}
        for name, entries in rows.items():
            file = tmp_path / f"val_gcg_coco_{name}_gt.json"
            file.write_text(json.dumps({**tables, "annotations": entries}))
        picture(tmp_path)
        first, other = (self.beside(tmp_path, file, more) for more in ("", " "))
        assert first.beside.keys() == {file.name}
        assert other.beside == {file.name: path_hash(file)} != first.beside

    def beside(self, folder, masks, more):
        masks.write_text(masks.read_text() + more)
        return harness.read_material("gcg", folder / "val_gcg_coco_caption_gt.json", folder)

    def test_labels_without_masks_are_named(self, tmp_path):
        tables = {"images": [{"id": "a", "height": 20, "width": 24}], "categories": []}
        caption = {"id": 1, "image_id": "a", "caption": "A dog.", "labels": ["a dog"]}
        for name, rows in (("caption", [caption]), ("mask", [])):
            file = tmp_path / f"val_gcg_coco_{name}_gt.json"
            file.write_text(json.dumps({**tables, "annotations": rows}))
        picture(tmp_path)
        with pytest.raises(Exception, match="labels and masks of an image differ"):
            harness.read_material("gcg", tmp_path / "val_gcg_coco_caption_gt.json", tmp_path)


@pytest.mark.parametrize("name", ["gcg", "sama-bench-g"])
def test_corrected_recall_looks_at_a_phrase_and_its_own_mask(name):
    """An ungrounded phrase of the answer, or a reference without a mask, moves nothing."""
    dog, ball = (MaskTrack.from_masks(square(place)[None]) for place in (1, 9))
    targets = (Target("the sky", None), Target("the dog", dog), Target("the ball", ball))
    words = "<p> the sky </p> [SEG] <p> the dog </p> [SEG] <p> the ball </p> [SEG]"
    turn = Turn("Describe.", words, targets=targets)
    case = Case("one", Sample("one", Media("image", "a.jpg"), (turn,)))
    said = "<p> nobody </p> and <p> the ball </p> [SEG] and [SEG]"
    answer = Prediction("one", said, phrases=("the ball", ""), tracks=(ball, dog))
    values = numbers(SUITES.get(name).score([case], {"one": answer}, MEANS))
    assert values["Recall", "corrected"] == pytest.approx(1 / 3)


def test_sama_bench_g_gives_the_reference_numbers(sama_golden):
    """Every golden question as a benchmark of its own, in both readings."""
    seen = 0
    for topic in topics(sama_golden, "sama_bench_g"):
        expected = topic.read("expected")["questions"]
        for video, records in topic.read("inputs").items():
            for record in records:
                name = f"{video}#{record['question']}"
                wanted = expected[name]
                if len(wanted["gt_phrases"]) < len(record["gt_masks"]):
                    continue  # no sample holds a reference mask without a phrase
                coded = wanted["as_coded"]
                phrases = max(1, len(wanted["gt_phrases"]))
                hits = len(wanted["corrected"]["matches_gt_pred_admissible_pairs"])
                found = numbers(dialogue(name, record, wanted))
                assert found["mIoU", "released"] == pytest.approx(wanted["miou"], abs=1e-9), name
                miou = wanted["miou_penalised"]
                assert found["mIoU", "corrected"] == pytest.approx(miou, abs=1e-9), name
                recall = coded.get("true_positives", 0) / max(1, coded["gt_counted"])
                assert found["Recall", "released"] == pytest.approx(recall, abs=1e-9), name
                assert found.get(("Recall", "corrected"), 0) == pytest.approx(hits / phrases), name
                seen += 1
    assert seen


def dialogue(name, record, wanted):
    """The scoreboard of one golden question; phrase k belongs to mask k."""
    times, *size = record["size_thw"]
    tracks = {
        side: [MaskTrack(tuple(size), times, dict(enumerate(tube))) for tube in record[side]]
        for side in ("gt_masks", "pred_masks")
    }
    targets = map(Target, wanted["gt_phrases"], [*tracks["gt_masks"], *[None] * 99])
    turn = Turn("?", record["gt_text"], targets=tuple(targets))
    case = Case(name, Sample(name, Media("video", "a.mp4"), (turn,)))
    said = [*wanted["pred_phrases"], *[""] * 99][: len(tracks["pred_masks"])]
    answer = Prediction(
        name, record["pred_text"], phrases=tuple(said), tracks=tuple(tracks["pred_masks"])
    )
    given = np.zeros((len(wanted["gt_phrases"]), 99))
    for row, values in enumerate(record["phrase_similarity_gt_by_pred"]):
        given[row, : len(values)] = values
    means = Means(NoJudge(), lambda targets, said: given[:, : len(said)], "given")
    return SUITES.get("sama-bench-g").score([case], {name: answer}, means)


def test_questions_of_one_dataset_have_types_by_what_is_asked():
    """A right "there is none" is no mask that was found; the table by type tells them apart."""
    tracks = [MaskTrack.from_masks(square(place)[None]) for place in (1, 9)]
    cases, answers = [], {}
    for name, wanted, found in (("none", 0, 0), ("one", 1, 0), ("two", 2, 2)):
        targets = tuple(Target("a thing", track) for track in tracks[:wanted])
        turn = Turn("?", "<p> a thing </p> [SEG]" * wanted, targets=targets)
        sample = Sample(name, Media("video", "a.mp4"), (turn,), tags=("mevis",))
        cases.append(Case(name, sample))
        answers[name] = Prediction(name, tracks=tuple(tracks[:found]), phrases=("a thing",) * found)
    (row,) = (
        row
        for row in SUITES.get("sama-bench-g").score(cases, answers, MEANS).summary()
        if (row["metric"], row["reading"]) == ("mIoU", "corrected")
    )
    assert row["value"] == pytest.approx(2 / 3)
    assert {kind: (one["value"], one["n"]) for kind, one in row["kinds"].items()} == {
        "nothing to ground": (1.0, 1),
        "one thing": (0.0, 1),
        "several things": (pytest.approx(1.0), 1),
    }


def test_video_gcg_reads_our_lines(tmp_path):
    frames = np.zeros((3, 20, 24, 3), np.uint8)
    np.save(tmp_path / "clip.npy", frames)
    track = MaskTrack.from_masks(np.stack([square(n) for n in range(3)]))
    turn = Turn("Describe.", "<p> A dog </p> [SEG] runs.", targets=(Target("A dog", track),))
    sample = Sample("one", Media("video", str(tmp_path / "clip.npy")), (turn,))
    sama.write([sample], tmp_path / "gcg.jsonl", tmp_path)
    found = harness.read_material("gcg-video", tmp_path / "gcg.jsonl", tmp_path)
    answer = Prediction("one", turn.assistant, phrases=("A dog",), tracks=(track,))
    values = numbers(SUITES.get("gcg-video").score(found.cases, {"one": answer}, MEANS))
    assert values["mIoU", "corrected"] == values["Recall", "corrected"] == 1


def test_refcocog_captions_of_regions(tmp_path):
    picture(tmp_path, "000000000009.jpg")
    image = {"id": 1, "file_name": "COCO_train2014_000000000009.jpg", "caption": "the left dog"}
    rows = [
        {"id": 7, "image_id": 1, "segmentation": encode(square(2))},
        {"id": 8, "image_id": 2, "segmentation": encode(square(2))},
    ]
    tables = {"images": [{**image, "height": 20, "width": 24}], "annotations": rows}
    (tmp_path / "val.json").write_text(json.dumps(tables))
    found = harness.read_material("refcocog-captions", tmp_path / "val.json", tmp_path)
    (case,) = found.cases
    assert len(found.bad) == 1 and case.sample.turns[0].assistant == "the left dog"
    assert np.array_equal(case.sample.regions[0].prompts[0].mask_array(20, 24), square(2))
    board = SUITES.get("refcocog-captions").score([case], {"7": Prediction("7")}, MEANS)
    assert "Java" in board.missing["BLEU, METEOR, ROUGE-L, CIDEr"] and not board.parts


@pytest.mark.parametrize(
    ("said", "wanted", "overlap"),
    [
        ("cat.", "cat", 1.0),
        ("It is a: Coffee table", "coffee table", 1.0),
        ("coffee cup", "coffee table", 1 / 3),
        ("", "cat", 0.0),
        ("dog, brown", "dog", 0.5),
    ],
)
def test_words_of_a_category(said, wanted, overlap):
    found = region_categories.shared_words(wanted, region_categories.spoken(said))
    assert found == pytest.approx(overlap)


def test_region_categories(tmp_path):
    picture(tmp_path)
    record = {"file_name": "a.jpg", "height": 20, "width": 24}
    record["categories"] = ["coffee_table", "mug:handle"]
    record["annotations"] = [{"segmentation": encode(square(n))} for n in (1, 3)]
    short = {**record, "categories": ["one"]}
    (tmp_path / "lvis.json").write_text(json.dumps([record, short]))
    found = harness.read_material("region-categories", tmp_path / "lvis.json", tmp_path)
    assert [c.sample.turns[0].assistant for c in found.cases] == ["coffee table", "mug handle"]
    assert len(found.bad) == 1 and "one category a region" in str(found.bad[0])
    said = {"a.jpg#0": "coffee table", "a.jpg#1": "cup"}
    answers = {key: Prediction(key, plain=text) for key, text in said.items()}
    board = SUITES.get("region-categories").score(found.cases, answers, MEANS)
    values = numbers(board)
    assert values["S-IoU", "released"] == values["S-Sim", "released"] == 0.5
    assert board.notes == ["S-Sim: words"]


def test_hc_stvg_asks_for_one_sentence(sama_data):
    folder = sama_data / "seeds" / "videorefer_bench"
    (file,) = (f for f in folder.rglob("*.json") if "-D" in f.name or "_d" in f.name.lower())
    found = harness.read_material("hc-stvg", file, sama_data)
    assert all("one sentence" in case.sample.turns[0].user for case in found.cases)
