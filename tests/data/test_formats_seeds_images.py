"""Image datasets: regions, expressions, grounded captions and verdicts as every seed folder's
expected.json says.
"""

from __future__ import annotations

import pickle

import pytest

from sama_plugin.data.formats import gcg, osprey, refcoco, sa2va_finetune
from sama_plugin.data.report import Quarantine
from sama_plugin.dialog.tokens import REGION_MARK, SEG
from sama_plugin.errors import DataError

from .seed_folders import areas, prompt_areas, reasons, seeds_of


@seeds_of("osprey")
class TestOsprey:
    def test_files(self, seed):
        count = regions = 0
        for name, records in seed.expected["files"].items():
            report = Quarantine()
            samples = list(osprey.read(seed.folder / name, seed.root, report=report))
            accepted = [record for record in records if record["verdict"] != "reject"]
            assert [sample.id for sample in samples] == [str(record["id"]) for record in accepted]
            for sample, record in zip(samples, accepted):
                assert len(sample.turns) == record["turns"]
                assert len(sample.regions) == record["regions"]
                found = {region.name: prompt_areas(region)[0] for region in sample.regions}
                wanted = dict(enumerate(record["mask_area"], 1))
                assert found == {f"region{number}": area for number, area in wanted.items()}
                assert not any("<region1>" in turn.user + turn.assistant for turn in sample.turns)
                shown = sum(turn.user.count(REGION_MARK) for turn in sample.turns)
                assert shown == record["regions"]
            count, regions = count + len(samples), regions + sum(len(s.regions) for s in samples)
        assert {"records": count, "regions": regions} == seed.expected["totals"]

    def test_malformed(self, seed):
        report = Quarantine()
        path = seed.folder / "malformed.json"
        samples = {sample.id for sample in osprey.read(path, seed.root, report=report)}
        for record in seed.expected["malformed"]:
            assert (str(record["id"]) in samples) == (record["verdict"] != "reject")
            assert reasons(report, record["id"]) == set(record["reasons"])


@seeds_of("refcoco")
class TestRefcoco:
    def path(self, seed):
        (found,) = seed.folder.glob("refs(*).json")
        return found

    def read(self, path, seed, split):
        report = Quarantine()
        return list(refcoco.read(path, seed.root, report=report, split=split)), report

    def test_splits(self, seed):
        splits = seed.expected["splits"]
        for split, totals in splits.items():
            if not totals["refs"]:
                with pytest.raises(DataError, match="no reference belongs"):
                    self.read(self.path(seed), seed, split)
                continue
            samples, _ = self.read(self.path(seed), seed, split)
            turns = [turn for sample in samples for turn in sample.turns]
            assert len(turns) == totals["sentences"]
            assert len({sample.media.source for sample in samples}) == totals["images"]
        tests = [split for split in splits if split.startswith("test")]
        samples, _ = self.read(self.path(seed), seed, tests)
        sentences = sum(len(sample.turns) for sample in samples)
        assert sentences == seed.expected["test_union"]["sentences"]

    def test_refs(self, seed):
        turns, report = {}, Quarantine()
        splits = list(seed.expected["splits"])
        for sample in refcoco.read(
            self.path(seed), seed.root, report=report, split=splits, expressions_per_sample=1
        ):
            ref = sample.id.split("#")[0]
            turns.setdefault(ref, []).append((sample, sample.turns[0]))
        for ref in seed.expected["refs"]:
            assert reasons(report, ref["ref_id"]) == set(ref["reasons"])
            if ref["verdict"] == "reject":
                assert str(ref["ref_id"]) not in turns
                continue
            found = turns.pop(str(ref["ref_id"]))
            assert [turn.targets[0].phrase for _, turn in found] == ref["expressions"]
            for sample, turn in found:
                assert sample.media.source.endswith(ref["image"])
                track = turn.targets[0].track
                assert (areas(track)[0] if track else 0) == ref["mask_area_union"]
        assert not turns

    def test_a_split_that_is_not_there(self, seed):
        with pytest.raises(DataError, match="no reference belongs"):
            self.read(self.path(seed), seed, "nowhere")

    def test_the_pickle_of_the_original_release_reads_the_same(self, seed, tmp_path):
        from sama_plugin.data.formats import files

        path = tmp_path / "refs(unc).p"
        path.write_bytes(pickle.dumps(files.load(self.path(seed)), protocol=0))
        (tmp_path / "instances.json").write_bytes((seed.folder / "instances.json").read_bytes())
        again, _ = self.read(path, seed, "train")
        first, _ = self.read(self.path(seed), seed, "train")
        assert [s.turns for s in again] == [s.turns for s in first]


@seeds_of("gcg")
class TestGcg:
    def test_files(self, seed):
        expected, count, marks = seed.expected, 0, 0
        for name, records in expected["files"].items():
            report = Quarantine()
            samples = list(gcg.read(seed.folder / name, seed.root, report=report))
            answers = [sample.turns[0].assistant for sample in samples]
            assert [" ".join(text.split()).rstrip(".").strip() for text in answers] == [
                " ".join(text.split()).rstrip(".").strip()
                for text in expected["correct_answers"][name]
            ]
            count += len(samples)
            marks += sum(len(sample.targets) for sample in samples)
            assert all(
                answer.count(SEG) == len(sample.targets) for answer, sample in zip(answers, samples)
            )
            if isinstance(records, dict):  # Flickr lists what is kept and dropped
                assert [sample.id for sample in samples] == [str(i) for i in records["images_kept"]]
                lost = len(records["images_dropped"]) + len(records["annotations_dropped"])
                assert len(report.dropped) == lost
                continue
            for sample, record in zip(samples, records):
                assert len(sample.targets) == record["seg"]
                if "phrases" in record:
                    assert [target.phrase for target in sample.targets] == record["phrases"]
                    found = [areas(target.track)[0] for target in sample.targets]
                    assert found == record["mask_area_union"]
                lost = {item["reason"] for item in record.get("dropped", ())}
                assert reasons(report, record.get("id", sample.id)) == lost
        assert {"samples": count, "seg": marks} == expected["totals"]


@seeds_of("sa2va_finetune")
class TestSa2vaFinetune:
    def test_records(self, seed):
        expected, report = seed.expected, Quarantine()
        path = seed.folder / "annotations.json"
        read = list(sa2va_finetune.read(path, seed.root, report=report, expressions_per_sample=1))
        turns = {}
        for sample in read:
            turns.setdefault(sample.id.split("#")[0], []).append(sample.turns[0])
        for record in expected["records"]:
            found = turns.pop(str(record["index"]), [])
            assert len(found) == record["turns"] == record["seg"]
            phrases = [turn.targets[0].phrase for turn in found]
            assert phrases == record["phrases"]
            got = [areas(turn.targets[0].track)[0] for turn in found]
            assert got == record["mask_area_union"]
            dropped = [error for error in report.dropped if error.record == record["index"]]
            if record["verdict"] == "reject":
                assert {error.reason for error in dropped} == set(record["reasons"])
                continue
            wanted = [
                (f"object {item['object']}", item["reasons"][0])
                for item in record["rejected_objects"]
            ]
            assert [(error.field, error.reason) for error in dropped] == wanted
        assert not turns and len({s.media.source for s in read}) == expected["totals"]["images"]
