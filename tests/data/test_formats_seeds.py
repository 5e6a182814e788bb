"""Every seed folder of a format of ours: samples, turns, regions, [SEG], areas and verdicts as its
expected.json says.

Conversations and expressions of one file each; the wider image and video layouts are in the
neighbours of this file. Kept-back folders run through the same tests (see `seed_folders`).
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
    videorefer_vl3,
)
from sama_plugin.data.report import Quarantine, Strict
from sama_plugin.errors import DataError
from sama_plugin.media import masks

from .seed_folders import areas, prompt_areas, reasons, seeds_of


def marked(text):
    return text.replace("<mask>", "<region>")


@seeds_of("sama_239k")
class TestSama239k:
    def read(self, seed, key="records", **options):
        folder, expected, root = seed.folder, seed.expected, seed.root
        report = Quarantine()
        path = folder / expected["files"][key]
        return expected, list(sama_239k.read(path, root, report=report, **options)), report

    def test_turns(self, seed):
        expected, samples, report = self.read(seed)
        for record in expected["records"]:
            accepted = {turn["turn"]: turn for turn in record.get("turns", ()) if turn["accept"]}
            found = {}
            start = f"{record['video_id']}#c"
            here = (sample for sample in samples if sample.id.startswith(start))
            chunks = [chunk for chunk in record.get("chunks_of_4", ()) if chunk["turns"]]
            for chunk, sample in zip(chunks, here):
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

    def test_rejected_turns_and_notes(self, seed):
        expected, _, report = self.read(seed)
        for record in expected["records"]:
            wanted = {turn["reason"] for turn in record.get("turns", ()) if not turn["accept"]}
            wanted |= {item["reason"] for item in record["descriptions"] if not item["accept"]}
            wanted |= {note for note in record["notes"] if note.isidentifier()}
            assert reasons(report, record["video_id"]) == wanted, record["video_id"]
        assert len(report.dropped) == (
            expected["totals"]["rejected_turns"] + expected["totals"]["rejected_descriptions"]
        )

    def test_descriptions(self, seed):
        expected, samples, _ = self.read(seed)
        for record in expected["records"]:
            start = f"{record['video_id']}#d"
            turns = [t for s in samples if s.id.startswith(start) for t in s.turns]
            wanted = [item for item in record["descriptions"] if item["accept"]]
            visible = [len(turn.regions[0].frames) for turn in turns]
            assert visible == [item["frames_with_mask"] for item in wanted]

    def test_totals(self, seed):
        expected, samples, _ = self.read(seed)
        chunks = [sample for sample in samples if "#c" in sample.id]
        totals = expected["totals"]
        assert len(chunks) == totals["conversation_chunks"]
        assert sum(not sample.targets for sample in chunks) == totals["chunks_without_seg"]
        assert sum(len(sample.turns) for sample in chunks) == totals["turns"]
        assert sum(len(sample.regions) for sample in chunks) == totals["regions"]
        assert sum(len(sample.targets) for sample in chunks) == totals["seg"]
        described = sum(len(sample.turns) for sample in samples if "#d" in sample.id)
        assert described == totals["descriptions"]
        _, kept, _ = self.read(seed, keep_plain=False)
        without = len(samples) - totals["chunks_without_seg"] - (len(samples) - len(chunks))
        assert len([sample for sample in kept if "#c" in sample.id]) == without

    def test_malformed(self, seed):
        expected, samples, report = self.read(seed, "malformed")
        assert samples == []
        for record in expected["malformed"]:
            assert reasons(report, record["video_id"]) == set(record["reasons"])

    def test_strict_stops_at_the_first_bad_record(self, seed):
        folder, expected, root = seed.folder, seed.expected, seed.root
        first = expected["malformed"][0]["video_id"]
        with pytest.raises(DataError, match=f"record {first}"):
            path = folder / expected["files"]["malformed"]
            list(sama_239k.read(path, root, report=Strict()))

    def test_a_budget_stops_the_run(self, seed):
        path = seed.folder / seed.expected["files"]["malformed"]
        with pytest.raises(DataError, match="more than 1"):
            list(sama_239k.read(path, seed.root, report=Quarantine(budget=1)))


@seeds_of("sama_bench")
class TestSamaBench:
    def test_questions_and_descriptions(self, seed):
        folder, expected, root = seed.folder, seed.expected, seed.root
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

    def test_tasks(self, seed):
        folder, expected, root = seed.folder, seed.expected, seed.root
        for file in {item["file"] for item in expected["descriptions"]}:
            report = Quarantine()
            read = sama_bench.read(folder / file, root, report=report, tasks=("descriptions",))
            wanted = [item for item in expected["descriptions"] if item["file"] == file]
            assert len(list(read)) == len(wanted)


@seeds_of("videorefer_700k")
class TestVideoRefer700k:
    def test_records(self, seed):
        folder, expected, root = seed.folder, seed.expected, seed.root
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

    def test_malformed(self, seed):
        folder, expected, root = seed.folder, seed.expected, seed.root
        report = Quarantine()
        samples = list(videorefer_700k.read(folder / "malformed.json", root, report=report))
        accepted = [str(r["id"]) for r in expected["malformed"] if r["verdict"] != "reject"]
        assert sorted(sample.id for sample in samples) == sorted(accepted)
        for record in expected["malformed"]:
            assert reasons(report, record["id"]) == set(record["reasons"]), record["id"]

    def test_without_opening_videos_only_the_clip_checks_are_later(self, seed):
        folder, expected, root = seed.folder, seed.expected, seed.root
        report = Quarantine()
        path = folder / "malformed.json"
        samples = list(videorefer_700k.read(path, root, report=report, probe=False))
        later = {"frame_out_of_range", "size_mismatch"}  # of the clip
        wanted = [
            str(record["id"])
            for record in expected["malformed"]
            if record["verdict"] != "reject" or set(record["reasons"]) <= later
        ]
        assert sorted(sample.id for sample in samples) == sorted(wanted)


@seeds_of("videorefer_vl3")
class TestVideoReferMasks:
    def test_records(self, seed):
        report = Quarantine()
        path = seed.file("*.json")
        samples = list(videorefer_vl3.read(path, seed.root, report=report))
        records = [one for one in seed.expected["records"] if one["verdict"] != "reject"]
        assert len(samples) == len(records)
        for sample, record in zip(samples, records):
            assert len(sample.regions) == record["regions_in_text"] == record["objects"]
            for region, wanted in zip(sample.regions, record["mask_area"]):
                wanted = wanted if isinstance(wanted, dict) else {"0": wanted}
                assert prompt_areas(region) == {int(key): area for key, area in wanted.items()}
            warned = record["verdict"] == "accept_with_warning"
            assert bool(reasons(report, sample.id)) == warned
        totals = seed.expected["totals"]
        assert sum(len(sample.regions) for sample in samples) == totals["regions"]
        assert len(samples) + len(report.dropped) == totals["records"]


@seeds_of("videorefer_bench")
class TestVideoReferBench:
    @pytest.mark.parametrize("mode", ["single", "multi"])
    @pytest.mark.parametrize("part", ["D", "Q"])
    def test_records(self, seed, part, mode):
        folder, expected, root = seed.folder, seed.expected, seed.root
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

    def test_multiple_choice_wording(self, seed):
        folder, expected, root = seed.folder, seed.expected, seed.root
        path = folder / "VideoRefer-Bench-Q.json"
        samples = {s.id: s for s in videorefer_bench.read(path, root, report=Quarantine())}
        for record in expected["Q"]:
            if record["verdict"] == "accept":
                turn = samples[str(record["id"])].turns[0]
                plain = record["prompt_reference_single_turn"].replace("[<region>]", "<region>")
                assert (turn.user, turn.assistant) == (plain, record["answer_letter"])
                assert samples[str(record["id"])].tags


@seeds_of("ref_youtube_vos")
class TestRefYoutubeVos:
    @pytest.mark.parametrize("kind", ["dictionary", "png"])
    def test_train(self, seed, kind):
        folder, expected = seed.folder, seed.expected
        report = Quarantine()
        samples = list(
            ref_youtube_vos.read(
                folder / "train" / "meta_expressions.json",
                seed.data,
                report=report,
                masks=kind,
                folders=expected["frame_folders"],
            )
        )
        drawn = {expected["annotation_png"]["folder"].rsplit("/", 1)[-1]}
        annotated = drawn if kind == "png" else set(expected["frame_folders"])
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

    def test_valid_split_asks_only(self, seed):
        folder, expected = seed.folder, seed.expected
        path = folder / "valid" / "meta_expressions.json"
        folders = expected["frame_folders"]
        samples = list(ref_youtube_vos.read(path, seed.data, folders=folders))
        assert samples
        for sample in samples:
            (turn,) = sample.turns
            assert turn.assistant is None and not turn.targets

    def test_missing_folder_is_named(self, seed):
        folder = seed.folder
        report = Quarantine()
        path = folder / "train" / "meta_expressions.json"
        assert not list(ref_youtube_vos.read(path, seed.data, report=report))
        assert reasons(report) == {"missing_media"}


@seeds_of("internvl_jsonl")
class TestInternvlMeta:
    def test_lines(self, seed):
        folder, expected = seed.folder, seed.expected
        report = Quarantine()
        samples = list(internvl_meta.read(folder / "samples.jsonl", seed.data, report=report))
        kinds = {"image": "image", "multi-image": "images", "video": "video", "text": "none"}
        assert len(samples) == expected["totals"]["records"]
        assert sum(len(sample.turns) for sample in samples) == expected["totals"]["turns"]
        for sample, record in zip(samples, expected["records"]):
            assert sample.id == str(record["id"])
            assert sample.media.kind == kinds[record["kind"]]
            assert len(sample.turns) == record["turns"]
            noted = bool(reasons(report, record["id"]))
            assert noted == (record.get("verdict") == "accept_with_warning")
        lines = (folder / "samples.jsonl").read_text("utf-8-sig").splitlines()
        for sample, line in zip(samples, filter(str.strip, lines)):
            first = json.loads(line)["conversations"][0]
            assert sample.system == (first["value"] if first["from"] == "system" else None)

    def test_malformed(self, seed):
        folder, expected = seed.folder, seed.expected
        report = Quarantine()
        path = folder / "malformed.jsonl"
        samples = list(internvl_meta.read(path, seed.data, report=report))
        lost = [item for item in expected["malformed"] if item["verdict"] == "reject"]
        assert len(samples) == len(expected["malformed"]) - len(lost)
        wanted = [reason for item in lost for reason in item["reasons"]]
        assert [error.reason for error in report.dropped] == wanted

    def test_meta(self, seed):
        folder, expected = seed.folder, seed.expected
        report = Quarantine()
        samples = list(internvl_meta.read(folder / "meta.json", folder, report=report))
        meta = expected["meta"]
        entries = internvl_meta.entries(folder / "meta.json")
        assert len(entries) == meta["datasets"]
        found = {entry.name: set() for entry in entries}
        for entry in entries:
            found[entry.name] |= reasons(report, entry.name)
            if not found[entry.name] and entry.repeat == meta["repeat_time"]:
                repeated = [one for one in samples if one.id.startswith(f"{entry.name}/")]
                assert len(repeated) == meta["expected_count"] == entry.count(meta["lines"])
        assert set().union(*found.values()) == {"missing_file", "wrong_length"} & set(meta)


def test_real_recipes(sama_data):
    folder = sama_data / "annotations" / "internvl_meta"
    for name, wanted in json.loads((folder / "expected.json").read_text()).items():
        entries = internvl_meta.entries(folder / name)
        assert len(entries) == wanted["datasets"]
        assert [entry.name for entry in entries] == wanted["names"]
        assert sum(entry.length for entry in entries) == wanted["total_length"]
        repeated = sum(entry.count(entry.length) for entry in entries)
        assert repeated == wanted["total_length_times_repeat"]
