"""The referring benchmarks from their files to their numbers, on real masks in the real layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sama_plugin.errors import DataError
from sama_plugin.eval import harness, rvos
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import SUITES, Means, Selection
from sama_plugin.eval.judge import NoJudge
from sama_plugin.eval.phrases import word_overlap
from sama_plugin.eval.submission import listed_frames, read_submission
from sama_plugin.media.masks import read_png, write_png
from sama_plugin.media.tracks import MaskTrack
from tests.eval.golden import topics

MEANS = Means(NoJudge(), word_overlap, "words")


def numbers(board):
    return {(row["metric"], row["reading"]): row["value"] for row in board.summary()}


def linked(root: Path, folders: dict[str, Path]) -> Path:
    """A media root of links, named as the annotation file names its videos."""
    for name, folder in folders.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(folder.resolve())
    return root


def frame_folders(seed: Path, data: Path) -> dict[str, Path]:
    expected = json.loads((seed / "expected.json").read_text())
    return {name: data / folder for name, folder in expected["frame_folders"].items()}


def scored(name, cases, answer):
    predictions = {case.key: answer(case) for case in cases}
    return SUITES.get(name).score(cases, predictions, MEANS)


def perfect(case):
    tracks = tuple(t.track for t in case.sample.turns[-1].targets if t.track is not None)
    return Prediction(case.key, tracks=tracks)


def silent(case):
    return Prediction(case.key, text="I see nothing.")


@pytest.fixture
def material(sama_data, tmp_path):
    """Suite name to the cases of its seed."""
    seeds = sama_data / "seeds"

    def read(name, seed, file, root=None, **selection):
        root = root or linked(tmp_path / "root", frame_folders(seeds / seed, sama_data))
        found = harness.read_material(
            name, seeds / seed / file, root, selection=Selection(**selection)
        )
        assert found.cases and not found.bad and not found.doubled
        return found

    return read


VIDEO_SUITES = [
    ("mevis", "mevis", "train/meta_expressions.json"),
    ("ref-youtube-vos", "ref_youtube_vos", "train/meta_expressions.json"),
    ("revos", "revos", "meta_expressions_valid_.json"),
]


@pytest.mark.parametrize(("name", "seed", "file"), VIDEO_SUITES, ids=lambda v: str(v)[:12])
def test_the_reference_scores_one_and_silence_little(name, seed, file, material):
    cases = material(name, seed, file).cases
    assert len({case.sample.id for case in cases}) == len(cases)
    cases = cases[:4]
    board = scored(name, cases, perfect)
    found = numbers(board)
    assert found["J&F", "corrected"] == 1 and not board.faults and not board.missing
    least = numbers(scored(name, cases, silent))
    assert least["J&F", "corrected"] < 0.9 < found["J&F", "released"]


def test_revos_measures(material):
    cases = material("revos", "revos", "meta_expressions_valid_.json").cases
    found = numbers(scored("revos", cases, perfect))
    for kind in ("", " referring", " reasoning"):
        assert found[f"R{kind}", "corrected"] == pytest.approx(1, abs=1e-6)
        assert found[f"A{kind}", "corrected"] == 1
    assert found["N-acc", "offline"] == 1
    one, other = (found[f"J&F {kind}", "released"] for kind in ("referring", "reasoning"))
    assert found["J&F", "released"] == pytest.approx((one + other) / 2)
    assert found["A", "released"] < found["A (Sa2VA)", "released"], "255 is compared with 1"


def test_several_masks_count_together_in_the_corrected_reading_alone(material):
    cases = material("mevis", "mevis", "train/meta_expressions.json").cases
    (case,) = (one for one in cases if one.sample.id == "cups_shuffle#1")
    (track,) = perfect(case).tracks
    left, right = (
        MaskTrack.from_masks(track.tube(range(track.total)) & half)
        for half in (np.arange(track.size[1]) < 320, np.arange(track.size[1]) >= 320)
    )
    found = numbers(scored("mevis", [case], lambda _: Prediction("", tracks=(left, right))))
    assert found["J", "corrected"] == 1 and found["J", "released"] < 1


def test_masks_of_another_size_are_named_and_count_as_none(material):
    cases = material("mevis", "mevis", "train/meta_expressions.json").cases[:1]
    small = MaskTrack.from_masks(np.ones((24, 9, 16), bool))
    board = scored("mevis", cases, lambda case: Prediction(case.key, tracks=(small,)))
    assert len(board.faults) == 1 and "another size" in board.faults[0]
    assert numbers(board) == numbers(scored("mevis", cases, silent))


@pytest.mark.parametrize("name", ["mevis", "ref-youtube-vos"])
def test_open_questions_become_a_zip_that_reads_back(name, material, tmp_path):
    seed = name.replace("-", "_")
    found = material(name, seed, "valid/meta_expressions.json")
    masks = np.zeros((24, 360, 640), bool)
    for frame in range(24):
        masks[frame, 10 * frame : 10 * frame + 40, 20:90] = True
    kept = MaskTrack.from_masks(masks)

    def answer(cases):
        for case in cases:
            yield Prediction(case.key, tracks=(kept,) if case is found.cases[0] else ())

    predictions = harness.predict(found, answer, tmp_path, {})
    summary = harness.score(name, found, predictions, MEANS, tmp_path, {})
    assert not summary["metrics"] and "server" in summary["not_computed"]["J, F, J&F"]
    assert summary["published"] == {"mevis": "mevis_val"}.get(name, seed)
    folder = "" if name == "mevis" else "Annotations"
    pictures = read_submission(tmp_path / summary["submission"]["file"], folder)
    listed = [listed_frames(case) for case in found.cases]
    assert set(pictures) == {(o.video, o.expression, stem) for o in listed for stem in o.stems}
    assert summary["submission"]["pictures"] == len(pictures)
    if name == "mevis":
        one = listed[0]
        for stem, frame in zip(one.stems, one.frames):
            assert np.array_equal(pictures[one.video, one.expression, stem], kept.mask(frame))
    silent_one = listed[-1]
    assert not pictures[silent_one.video, silent_one.expression, silent_one.stems[0]].any()
    with pytest.raises(DataError, match="wrong place"):
        read_submission(tmp_path / "submission.zip", "Annotations" if name == "mevis" else "")


def test_ref_davis_counts_expressions_of_sorted_videos(sama_data, tmp_path):
    """The same files as Ref-YouTube-VOS, but annotation 0 is that of the first video by name."""
    seed = sama_data / "seeds" / "ref_youtube_vos" / "train"
    root = linked(tmp_path / "root", frame_folders(seed.parent, sama_data))
    davis = harness.read_material("ref-davis17", seed / "meta_expressions.json", root)
    dictionary = json.loads((seed / "mask_dict.json").read_text())
    first = {c.sample.id: c for c in davis.cases}["a_first_clip#0"]
    assert perfect(first).tracks[0].rles[0] == dictionary["0"][0]
    assert [case.sample.id for case in davis.cases][1:3] == ["bedroom01#0", "bedroom01#1"]
    assert len(davis.bad) == 1 and "fewer masks" in str(davis.bad[0]), "of the short clip"
    assert numbers(scored("ref-davis17", davis.cases[:1], perfect))["J&F", "corrected"] == 1


def test_ref_sav_asks_the_long_descriptions(sama_data):
    file = sama_data / "seeds" / "ref_sav" / "ref_sav_train.json"
    cases = harness.read_material("ref-sav", file, sama_data / "frames").cases
    assert len(cases) == 2 and len(perfect(cases[0]).tracks[0].rles) == 15
    assert numbers(scored("ref-sav", cases, perfect))["J&F", "corrected"] == 1


def test_reasonvos_reads_pictures_of_objects(sama_data, tmp_path):
    frames = sama_data / "frames" / "mevis" / "train" / "JPEGImages" / "cups_shuffle"
    masks = next((sama_data / "masks_png" / "cups_shuffle").iterdir())
    stems = sorted(file.stem for file in masks.glob("*.png"))[:3]
    root = linked(tmp_path / "JPEGImages", {"clip": frames})
    folder = tmp_path / "Annotations" / "mose_clip_7"
    folder.mkdir(parents=True)
    for stem in stems:
        shutil.copy(masks / f"{stem}.png", folder)
    entry = {"obj_id": 7, "exp_text": "Which thing can roll?"}
    video = {"source": "MOSE", "frames": stems, "expressions": {"0": entry, "1": {"obj_id": 9}}}
    file = tmp_path / "meta_expressions.json"
    file.write_text(json.dumps({"videos": {"clip": video}}))
    found = harness.read_material("reasonvos", file, root)
    (case,) = found.cases
    assert len(found.bad) == 1 and "expressions['1']" in str(found.bad[0])
    assert case.kind == "mose" and case.sample.turns[0].user == "Which thing can roll?"
    expected = read_png(masks / f"{stems[0]}.png") > 0
    assert np.array_equal(perfect(case).tracks[0].mask(0), expected)
    write_png(folder / f"{stems[0]}.png", np.ones((4, 4), np.uint8))
    with pytest.raises(DataError, match="no usable record"):
        harness.read_material("reasonvos", file, root)


class TestImages:
    def cases(self, sama_data, name="refcoco", **selection):
        folder = sama_data / "seeds" / "refcoco"
        return harness.read_material(
            name, folder / "refs(unc).json", sama_data / "images", selection=Selection(**selection)
        ).cases

    def test_every_sentence_is_a_case(self, sama_data):
        expected = json.loads((sama_data / "seeds" / "refcoco" / "expected.json").read_text())
        for split, wanted in expected["splits"].items():
            cases = self.cases(sama_data, split=split)
            assert len(cases) == wanted["sentences"], split
        assert len(self.cases(sama_data)) == expected["splits"]["val"]["sentences"]
        tests = [len(self.cases(sama_data, split=one)) for one in ("testA", "testB")]
        assert len(self.cases(sama_data, split="test")) == sum(tests), (
            "as the public REFER reads it"
        )

    def test_readings_of_a_missing_mask(self, sama_data):
        cases = [c for c in self.cases(sama_data) if perfect(c).tracks]
        assert len(cases) > 1
        found = numbers(scored("refcoco", cases, perfect))
        assert found["cIoU", "released"] == found["cIoU", "corrected"] == 1
        assert 1 - 1e-4 < found["gIoU", "released"] < 1 == found["gIoU", "corrected"]
        board = scored("refcoco", cases, lambda c: perfect(c) if c is cases[0] else silent(c))
        found = numbers(board)
        assert found["cIoU", "released"] == 1, "silence is left out there"
        assert found["cIoU", "corrected"] < 1
        assert board.counts["sentences the released cIoU leaves out"] == len(cases) - 1

    def test_nothing_there_is_an_answer(self, sama_data, tmp_path):
        folder = sama_data / "seeds" / "refcoco"
        refs = json.loads((folder / "refs(unc).json").read_text())
        refs = [{**refs[0], "split": "val"}, {**refs[1], "split": "val", "ann_id": [-1]}]
        (tmp_path / "grefs.json").write_text(json.dumps(refs))
        shutil.copy(folder / "instances.json", tmp_path)
        file = tmp_path / "grefs.json"
        cases = harness.read_material("grefcoco", file, sama_data / "images").cases
        right = numbers(scored("grefcoco", cases, perfect))
        assert right["N-acc", "corrected"] == right["T-acc", "corrected"] == 1
        assert right["gIoU", "corrected"] == 1
        mute = numbers(scored("grefcoco", cases, silent))
        assert mute["N-acc", "corrected"] == 1 and mute["T-acc", "corrected"] == 0
        assert mute["cIoU", "corrected"] == 0


class TestGoldenThroughTheSuites:
    """The reference's own numbers, from annotation files to the scoreboard."""

    @pytest.fixture
    def clips(self, sama_golden, tmp_path):
        """(topic, folder) with black frames, of the clips that have predictions."""
        found = []
        for place, topic in enumerate(topics(sama_golden, "rvos_jf")):
            folder, predictions = tmp_path / str(place), topic.read("predictions_rle")
            meta = topic.read("meta_expressions")
            meta["videos"] = {v: one for v, one in meta["videos"].items() if v in predictions}
            for video, one in meta["videos"].items():
                (folder / "root" / video).mkdir(parents=True)
                black = Image.new("L", (one["width"], one["height"]))
                for stem in one["frames"]:
                    black.save(folder / "root" / video / f"{stem}.jpg")
            (folder / "meta_expressions.json").write_text(json.dumps(meta))
            for file in ("mask_dict.json", "mask_dict_foreground.json"):
                shutil.copy(topic.folder / file, folder)
            found.append((topic, folder))
        return found

    @pytest.mark.parametrize("name", ["mevis", "revos"])
    def test_numbers(self, name, clips):
        for topic, folder in clips:
            file = folder / "meta_expressions.json"
            meta = json.loads(file.read_text())["videos"]
            cases = harness.read_material(name, file, folder / "root").cases
            answers = topic.read("predictions_rle")

            def answer(case, meta=meta, answers=answers):
                video, _, number = case.sample.id.rpartition("#")
                masks = answers[video][number]["prediction_masks"]
                size = meta[video]["height"], meta[video]["width"]
                return Prediction("", tracks=(MaskTrack(size, len(masks), dict(enumerate(masks))),))

            board = scored(name, cases, answer)
            assert not board.faults
            assert len(cases) == sum(len(one["expressions"]) for one in meta.values())
            self.check(name, board, topic.read("expected"), cases)

    def check(self, name, board, expected, cases):
        blocks, totals = {("corrected", ""): "corrected_boolean"}, numbers(board)
        if name == "revos":
            blocks["released", ""] = "revos_sama_png_value_255"
            blocks["released", " (Sa2VA)"] = "revos_sama_png_value_1"
        for (reading, suffix), block in blocks.items():
            found = expected[block]["per_expression"]
            wanted = {case.key: found[case.sample.id.replace("#", "_")] for case in cases}
            measures = "AR" if suffix else "JFAR" if name == "revos" else "JF"
            for case in cases:
                for measure in measures:
                    value = board.parts[measure + suffix, reading][case.key].value
                    stated = wanted[case.key][measure]
                    if reading == "released":
                        stated = round(100 * stated, 2) / 100
                    assert value == pytest.approx(stated, abs=1e-12), (case.key, measure, reading)
            if name == "revos":
                rule = rvos.revos_percent if reading == "corrected" else rvos.revos_percent_released
                means = rule(wanted, {case.key: case.kind == "reasoning" for case in cases})
                for group, title in (("overall", ""), ("referring", " referring")):
                    for measure in measures:
                        value = totals[measure + suffix + title, reading]
                        assert 100 * value == pytest.approx(means[group][measure], abs=1e-9)
