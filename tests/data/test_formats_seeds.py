"""Every seed folder of a format of ours: samples, turns, regions, [SEG], areas and verdicts as its
expected.json says.

Folders are found below SAMA_DATA/seeds, so kept-back folders of the same layout run through the
same tests.
"""

from __future__ import annotations

import json
import re

import pytest

from sama_plugin.data.formats import (
    internvl_meta,
    ref_youtube_vos,
    sama_239k,
    sama_bench,
    videorefer_700k,
    videorefer_bench,
)
from sama_plugin.data.report import Quarantine, Strict
from sama_plugin.errors import DataError
from sama_plugin.media import masks


@pytest.fixture
def seeds(sama_data):
    """(folder, expected) of a seed folder by name, and the media root."""

    def open_seed(name):
        folder = sama_data / "seeds" / name
        expected = json.loads((folder / "expected.json").read_text())
        return folder, expected, sama_data / expected.get("media_root", "frames")

    return open_seed


def reasons(report, record=None):
    found = report.dropped + report.noted
    return {error.reason for error in found if record is None or str(error.record) == str(record)}


def areas(track):
    return [track.area(frame) for frame in track.frames()]


def marked(text):
    return text.replace("<mask>", "<region>")


class TestSama239k:
    def read(self, seeds, key="records", **options):
        folder, expected, root = seeds("sama_239k")
        report = Quarantine()
        path = folder / expected["files"][key]
        return expected, list(sama_239k.read(path, root, report=report, **options)), report

    def test_turns(self, seeds):
        expected, samples, report = self.read(seeds)
        by_id = {sample.id: sample for sample in samples}
        for record in expected["records"]:
            accepted = {turn["turn"]: turn for turn in record.get("turns", ()) if turn["accept"]}
            found = {}
            for index, chunk in enumerate(record.get("chunks_of_4", ())):
                sample = by_id[f"{record['video_id']}#c{index}"]
                assert len(sample.turns) == len(chunk["turns"])
                found.update(zip(chunk["turns"], sample.turns))
            assert set(found) == set(accepted)
            for number, turn in found.items():
                wanted = accepted[number]
                assert turn.user == marked(wanted["question"])
                assert turn.assistant == wanted["answer"]
                assert len(turn.regions) == wanted["regions"]
                assert len(turn.targets) == wanted["seg"]
                assert [areas(target.track) for target in turn.targets] == wanted[
                    "mask_area_per_frame"
                ]

    def test_rejected_turns_and_notes(self, seeds):
        expected, _, report = self.read(seeds)
        for record in expected["records"]:
            wanted = {turn["reason"] for turn in record.get("turns", ()) if not turn["accept"]}
            wanted |= {item["reason"] for item in record["descriptions"] if not item["accept"]}
            wanted |= {note for note in record["notes"] if note.isidentifier()}
            assert reasons(report, record["video_id"]) == wanted, record["video_id"]
        assert len(report.dropped) == (
            expected["totals"]["rejected_turns"] + expected["totals"]["rejected_descriptions"]
        )

    def test_descriptions(self, seeds):
        expected, samples, _ = self.read(seeds)
        for record in expected["records"]:
            start = f"{record['video_id']}#d"
            turns = [t for s in samples if s.id.startswith(start) for t in s.turns]
            wanted = [item for item in record["descriptions"] if item["accept"]]
            visible = [len(turn.regions[0].frames) for turn in turns]
            assert visible == [item["frames_with_mask"] for item in wanted]

    def test_totals(self, seeds):
        expected, samples, _ = self.read(seeds)
        chunks = [sample for sample in samples if "#c" in sample.id]
        totals = expected["totals"]
        assert len(chunks) == totals["conversation_chunks"]
        assert sum(not sample.targets for sample in chunks) == totals["chunks_without_seg"]
        assert sum(len(sample.turns) for sample in chunks) == totals["turns"]
        assert sum(len(sample.regions) for sample in chunks) == totals["regions"]
        assert sum(len(sample.targets) for sample in chunks) == totals["seg"]
        described = sum(len(sample.turns) for sample in samples if "#d" in sample.id)
        assert described == totals["descriptions"]
        _, kept, _ = self.read(seeds, keep_plain=False)
        without = len(samples) - totals["chunks_without_seg"] - (len(samples) - len(chunks))
        assert len([sample for sample in kept if "#c" in sample.id]) == without

    def test_malformed(self, seeds):
        expected, samples, report = self.read(seeds, "malformed")
        assert samples == []
        for record in expected["malformed"]:
            assert reasons(report, record["video_id"]) == set(record["reasons"])

    def test_strict_stops_at_the_first_bad_record(self, seeds):
        folder, expected, root = seeds("sama_239k")
        with pytest.raises(DataError, match="record m0"):
            list(sama_239k.read(folder / "malformed.json", root, report=Strict()))

    def test_a_budget_stops_the_run(self, seeds):
        folder, expected, root = seeds("sama_239k")
        with pytest.raises(DataError, match="more than 2"):
            list(sama_239k.read(folder / "malformed.json", root, report=Quarantine(budget=2)))


class TestSamaBench:
    def test_questions_and_descriptions(self, seeds):
        folder, expected, root = seeds("sama_bench")
        files = sorted({item["file"] for item in expected["questions"]})
        report = Quarantine()
        samples = {}
        for file in files:
            for sample in sama_bench.read(folder / file, root, report=report):
                assert sample.id not in samples and len(sample.turns) == 1
                samples[sample.id] = sample.turns[0]
        for item in expected["questions"]:
            turn = samples.pop(item["question_id"])
            assert turn.user == marked(item["question"])
            assert turn.assistant == item["reference_answer"]
            assert len(turn.regions) == len(item["region_ids"])
            assert [areas(target.track) for target in turn.targets] == item["tube_area_per_frame"]
        for item in expected["descriptions"]:
            turn = samples.pop(item["description_id"])
            assert (turn.user, turn.assistant) == (marked(item["question"]), item["reference"])
        assert not samples
        for item in expected["rejected_questions"]:
            assert item["reason"] in reasons(report, item["question_id"])
        assert len(report.dropped) == len(expected["rejected_questions"])

    def test_tasks(self, seeds):
        folder, expected, root = seeds("sama_bench")
        found = list(sama_bench.read(folder / "lvvis_0.json", root, tasks=("descriptions",)))
        wanted = [item for item in expected["descriptions"] if item["file"] == "lvvis_0.json"]
        assert len(found) == len(wanted)


class TestVideoRefer700k:
    def test_records(self, seeds):
        folder, expected, root = seeds("videorefer_700k")
        totals = {"records": 0, "regions": 0, "turns": 0}
        for file, records in expected["files"].items():
            report = Quarantine()
            samples = list(videorefer_700k.read(folder / file, root, report=report))
            assert [sample.id for sample in samples] == [str(record["id"]) for record in records]
            assert not report.dropped
            for sample, record in zip(samples, records):
                assert len(sample.turns) == record["turns"]
                assert len(sample.regions) == record["regions_in_text"]
                for region, wanted in zip(sample.regions, record["objects"]):
                    pairs = zip(wanted["frames_sorted"], wanted["mask_area"])
                    present = [(frame, area) for frame, area in pairs if area]
                    found = [(p.frame, masks.area(p.mask)) for p in region.prompts]
                    assert found == present and len(found) == wanted["valid"]
                assert not re.search("<video>|<image>", sample.turns[0].user)
                totals["records"] += 1
                totals["regions"] += len(sample.regions)
                totals["turns"] += len(sample.turns)
        assert totals == expected["totals"]

    def test_malformed(self, seeds):
        folder, expected, root = seeds("videorefer_700k")
        report = Quarantine()
        samples = list(videorefer_700k.read(folder / "malformed.json", root, report=report))
        accepted = [r["id"] for r in expected["malformed"] if r["verdict"] != "reject"]
        assert [sample.id for sample in samples] == accepted
        for record in expected["malformed"]:
            assert reasons(report, record["id"]) == set(record["reasons"]), record["id"]

    def test_without_opening_videos_only_the_clip_checks_are_later(self, seeds):
        folder, expected, root = seeds("videorefer_700k")
        report = Quarantine()
        path = folder / "malformed.json"
        samples = list(videorefer_700k.read(path, root, report=report, probe=False))
        assert {sample.id for sample in samples} == {"b_range", "b_size", "b_many"}


class TestVideoReferBench:
    @pytest.mark.parametrize("mode", ["single", "multi"])
    @pytest.mark.parametrize("part", ["D", "Q"])
    def test_records(self, seeds, part, mode):
        folder, expected, root = seeds("videorefer_bench")
        report = Quarantine()
        path = folder / f"VideoRefer-Bench-{part}.json"
        samples = {s.id: s for s in videorefer_bench.read(path, root, report=report, mode=mode)}
        refused = {"reject", "reject_single_mode"} if mode == "single" else {"reject"}
        for record in expected[part]:
            assert (str(record["id"]) in samples) == (record["verdict"] not in refused)
            if str(record["id"]) not in samples:
                assert reasons(report, record["id"]) == set(record["reasons"])
                continue
            sample = samples[str(record["id"])]
            found = [[masks.area(p.mask) for p in region.prompts] for region in sample.regions]
            if mode == "single":
                assert [sum(one) for one in found] == record["single_mode_area"]
            elif "multi" in record:
                wanted = [[a for a in one["mask_area"] if a] for one in record["multi"]]
                assert found == wanted

    def test_multiple_choice_wording(self, seeds):
        folder, expected, root = seeds("videorefer_bench")
        path = folder / "VideoRefer-Bench-Q.json"
        samples = {s.id: s for s in videorefer_bench.read(path, root, report=Quarantine())}
        for record in expected["Q"]:
            if record["verdict"] == "accept":
                turn = samples[str(record["id"])].turns[0]
                plain = record["prompt_reference_single_turn"].replace("[<region>]", "<region>")
                assert (turn.user, turn.assistant) == (plain, record["answer_letter"])
                assert samples[str(record["id"])].tags


class TestRefYoutubeVos:
    @pytest.mark.parametrize("kind", ["dictionary", "png"])
    def test_train(self, seeds, sama_data, kind):
        folder, expected, _ = seeds("ref_youtube_vos")
        report = Quarantine()
        samples = list(
            ref_youtube_vos.read(
                folder / "train" / "meta_expressions.json",
                sama_data,
                report=report,
                masks=kind,
                folders=expected["frame_folders"],
            )
        )
        annotated = {"bedroom01"} if kind == "png" else set(expected["frame_folders"])
        turns = {}
        for sample in samples:
            turns.setdefault(sample.id.split("#")[0], []).extend(sample.turns)
            assert len(sample.turns) <= 5
        assert set(turns) == annotated
        for item in expected["counter_order_training"]:
            if item["video"] in annotated:
                turn = turns[item["video"]].pop(0)
                wanted = expected["mask_area_per_frame"][str(item["counter"])]
                assert areas(turn.targets[0].track) == wanted
        assert not any(turns.values())
        if kind == "dictionary":
            assert not report.dropped

    def test_valid_split_asks_only(self, seeds, sama_data):
        folder, expected, _ = seeds("ref_youtube_vos")
        path = folder / "valid" / "meta_expressions.json"
        folders = expected["frame_folders"]
        samples = list(ref_youtube_vos.read(path, sama_data, folders=folders))
        assert samples
        for sample in samples:
            (turn,) = sample.turns
            assert turn.assistant is None and not turn.targets

    def test_missing_folder_is_named(self, seeds, sama_data):
        folder, _, _ = seeds("ref_youtube_vos")
        report = Quarantine()
        path = folder / "train" / "meta_expressions.json"
        assert not list(ref_youtube_vos.read(path, sama_data, report=report))
        assert reasons(report) == {"missing_media"}


class TestInternvlMeta:
    def test_lines(self, seeds, sama_data):
        folder, expected, _ = seeds("internvl_jsonl")
        report = Quarantine()
        samples = list(internvl_meta.read(folder / "samples.jsonl", sama_data, report=report))
        kinds = {"image": "image", "multi-image": "images", "video": "video", "text": "none"}
        assert len(samples) == expected["totals"]["records"]
        assert sum(len(sample.turns) for sample in samples) == expected["totals"]["turns"]
        for sample, record in zip(samples, expected["records"]):
            assert sample.id == str(record["id"])
            assert sample.media.kind == kinds[record["kind"]]
            assert len(sample.turns) == record["turns"]
            noted = bool(reasons(report, record["id"]))
            assert noted == (record.get("verdict") == "accept_with_warning")
        assert samples[4].system == "You are brief."

    def test_malformed(self, seeds, sama_data):
        folder, expected, _ = seeds("internvl_jsonl")
        report = Quarantine()
        path = folder / "malformed.jsonl"
        assert not list(internvl_meta.read(path, sama_data, report=report))
        wanted = [reason for item in expected["malformed"] for reason in item["reasons"]]
        assert [error.reason for error in report.dropped] == wanted

    def test_meta(self, seeds):
        folder, expected, _ = seeds("internvl_jsonl")
        report = Quarantine()
        samples = list(internvl_meta.read(folder / "meta.json", folder, report=report))
        meta = expected["meta"]
        repeated = [s for s in samples if s.id.startswith("seed_samples/")]
        assert len(repeated) == meta["expected_count"] == meta["lines"] * meta["repeat_time"]
        assert len(internvl_meta.entries(folder / "meta.json")) == meta["datasets"]
        assert reasons(report, "seed_missing_file") == {"missing_file"}
        assert reasons(report, "seed_wrong_length") == {"wrong_length"}

    def test_real_recipes(self, sama_data):
        folder = sama_data / "annotations" / "internvl_meta"
        for name, wanted in json.loads((folder / "expected.json").read_text()).items():
            entries = internvl_meta.entries(folder / name)
            assert len(entries) == wanted["datasets"]
            assert [entry.name for entry in entries] == wanted["names"]
            assert sum(entry.length for entry in entries) == wanted["total_length"]
            repeated = sum(entry.count(entry.length) for entry in entries)
            assert repeated == wanted["total_length_times_repeat"]
