"""Video expression and instance datasets: expressions, unions, areas and verdicts as every seed
folder's expected.json says.
"""

from __future__ import annotations

import json

import pytest

from sama_plugin.data.formats import lvvis, mevis, ref_sav, revos, sa_v, vidstg
from sama_plugin.data.library import Library
from sama_plugin.data.report import Quarantine
from sama_plugin.dialog.tokens import SEG
from sama_plugin.errors import DataError
from sama_plugin.media import masks

from .seed_folders import areas, seeds_of


def by_video(samples):
    """Video name to its turns in order."""
    found = {}
    for sample in samples:
        found.setdefault(sample.id.rsplit("#", 1)[0], []).extend(sample.turns)
    return found


@seeds_of("mevis")
class TestMevis:
    def read(self, seed, split, **options):
        report = Quarantine()
        path = seed.folder / split / "meta_expressions.json"
        folders = seed.expected["frame_folders"]
        return list(mevis.read(path, seed.data, report=report, folders=folders, **options)), report

    def test_train(self, seed):
        samples, report = self.read(seed, "train")
        assert not report.dropped
        turns = by_video(samples)
        for sample in samples:
            name = sample.id.split("#")[0]
            listed = seed.expected["train"]["frames"][name]["count"]
            assert all(len(target.track.frames()) == listed for target in sample.targets)
        for item in seed.expected["train"]["items"]:
            turn = turns[item["video"]].pop(0)
            assert turn.targets[0].phrase == item["exp"].strip()
            assert (turn.user == item["exp"].strip()) == item["is_question"]
            assert areas(turn.targets[0].track) == item["mask_area_per_frame"]
        assert not any(turns.values())

    def test_valid_split_asks_only(self, seed):
        samples, report = self.read(seed, "valid")
        assert len(samples) == seed.expected["valid"]["expressions"] and not report.dropped
        assert all(turn.assistant is None for sample in samples for turn in sample.turns)

    def test_malformed(self, seed):
        samples, report = self.read(seed, "malformed")
        dropped = {}
        for error in report.dropped:  # an expression, or a video with all of its own
            named = (error.field or "").split("'")[1:2]
            dropped[(str(error.record), *named)] = error.reason
        for item in seed.expected["malformed"]:
            whole, one = (item["video"],), (item["video"], item["exp_id"])
            assert {dropped[whole if whole in dropped else one]} == set(item["reasons"])
        named = {(item["video"], item["exp_id"]) for item in seed.expected["malformed"]}
        assert not samples and set(dropped) <= named | {(video,) for video, _ in named}


@seeds_of("revos")
class TestRevos:
    def test_items(self, seed):
        expected, report = seed.expected, Quarantine()
        (path,) = seed.folder.glob("meta_expressions*.json")
        folders = expected["frame_folders"]
        samples = list(
            revos.read(path, seed.data, report=report, folders=folders, expressions_per_sample=1)
        )
        found = {sample.id: sample for sample in samples}
        assert len(found) == len(samples) == expected["totals"]["expressions"]
        assert not report.dropped
        for item in expected["items"]:
            sample = found[f"{item['video']}#{item['exp_id']}"]
            assert sample.tags == (revos.KINDS[item["type_id"]],)
            (turn,) = sample.turns
            if item["anno_id"]:
                assert areas(turn.targets[0].track) == item["mask_area_per_frame"]
            else:
                assert SEG not in turn.assistant and not turn.targets

    def test_foreground(self, seed):
        found = revos.foreground(seed.folder / "mask_dict_foreground.json")
        got = {
            name: [masks.area(rle) if rle else 0 for rle in rles] for name, rles in found.items()
        }
        assert got == seed.expected["foreground_area_per_frame"]


@seeds_of("lvvis")
class TestLvvis:
    @pytest.mark.parametrize("own", [True, False])
    def test_instances(self, seed, own):
        expected, report = seed.expected, Quarantine()
        path = seed.folder / "train_instances.json"
        roots = {name: str(seed.data / place) for name, place in expected["frame_root"].items()}
        if own:
            read = list(lvvis.read(path, seed.data, report=report, folders=roots))
            videos = {video["id"] for video in expected["videos"]}
            assert not report.dropped and len(read) == len(videos)
            self.compare(read, expected, videos)
            return
        seen = set()
        for file in sorted(seed.folder.glob("*mask_dict*.json")):
            report = Quarantine()
            read = list(lvvis.read(path, seed.data, report=report, folders=roots, masks=file))
            known = {int(key) for key in json.loads(file.read_text())}
            lost = [item for item in expected["annotations"] if item["id"] not in known]
            assert [error.reason for error in report.dropped] == ["missing_mask_id"] * len(lost)
            self.compare(read, expected, {int(sample.id) for sample in read}, known)
            seen |= known
        assert seen >= {item["id"] for item in expected["annotations"]}

    def compare(self, samples, expected, videos, known=None):
        for video in expected["videos"]:
            if video["id"] not in videos:
                continue
            (sample,) = [one for one in samples if one.id == str(video["id"])]
            assert all(target.track.total == video["frames"] for target in sample.targets)
            assert all(list(target.track.size) == video["size_hw"] for target in sample.targets)
            wanted = {}
            for item in expected["annotations"]:
                if item["video_id"] == video["id"] and (known is None or item["id"] in known):
                    wanted.setdefault(item["category"], []).append(item["areas"])
            got = {
                turn.targets[0].phrase: [areas(t.track) for t in turn.targets]
                for turn in sample.turns
            }
            assert got == wanted
            assert all(turn.assistant.count(SEG) == len(turn.targets) for turn in sample.turns)


@seeds_of("vidstg")
class TestVidstg:
    def wanted(self, seed):
        objects = seed.expected["objects"].values()
        return sorted((item["category"], item["mask_area"]) for item in objects)

    def root(self, seed):
        return (seed.data / seed.expected["frame_folder"]).parent

    def test_frame_list(self, seed):
        report = Quarantine()
        path = seed.folder / "vidstg_frames.json"
        (sample,) = vidstg.read(path, self.root(seed), report=report)
        got = sorted((target.phrase, areas(target.track)) for target in sample.targets)
        assert got == self.wanted(seed) and not report.dropped
        assert len(sample.targets) == seed.expected["totals"]["objects"]
        assert all(t.track.total == seed.expected["totals"]["frames"] for t in sample.targets)

    def test_captions_and_questions(self, seed):
        report = Quarantine()
        path = seed.folder / "train_annotations.json"
        read = list(vidstg.read(path, self.root(seed), report=report))
        turns = [turn for sample in read for turn in sample.turns]
        assert len(turns) == sum(seed.expected["captions"].values()) and not report.dropped
        known = [area for _, area in self.wanted(seed)]
        assert all(areas(turn.targets[0].track) in known for turn in turns)


@seeds_of("ref_sav")
class TestRefSav:
    @pytest.mark.parametrize("wording", ["long", "short", "both"])
    def test_videos(self, seed, wording):
        report = Quarantine()
        path = seed.file("*.json")
        read = list(ref_sav.read(path, seed.root, report=report, wording=wording))
        turns, totals = by_video(read), seed.expected["totals"]
        count = {"long": totals["expressions_long"], "short": totals["expressions_short"]}
        count["both"] = sum(count.values())
        assert sum(map(len, turns.values())) == count[wording] and not report.dropped
        for video in seed.expected["videos"]:
            wanted = list(video["mask_area_per_annotated_frame"].values())
            got = [areas(turn.targets[0].track) for turn in turns[video["video_id"]]]
            assert all(one in wanted for one in got) and all(one in got for one in wanted)
            track = turns[video["video_id"]][0].targets[0].track
            assert list(track.size) == video["size_hw"] and track.total == video["decoded_frames"]
            assert track.frames() == tuple(range(0, 4 * video["annotated_frames"], 4))

    def test_masklets_alone(self, seed):
        for video in seed.expected["videos"]:
            file = seed.data / video["manual"]
            (sample,) = sa_v.read(file, file.parent)
            assert len(sample.turns) == video["objects"]
            for turn, wanted in zip(sample.turns, video["mask_area_per_annotated_frame"].values()):
                assert areas(turn.targets[0].track) == wanted
                assert turn.regions[0].frames == (
                    turn.targets[0].track.frames()[
                        next(i for i, area in enumerate(wanted) if area)
                    ],
                )


def test_real_sa_v_file(sama_data):
    folder = sama_data / "annotations" / "sav"
    (path,) = folder.glob("*_manual.json")
    content = json.loads(path.read_text())
    rows, columns = len(content["masklet"]), len(content["masklet"][0])
    with pytest.raises(DataError, match="does not exist"):
        list(sa_v.read(path, folder))

    class Unprobed(Library):
        def facts(self, source):
            return None

    found = dict(sa_v.tracks(path, "absent.mp4", Unprobed(folder)))
    assert set(found) <= set(range(columns))
    assert all(len(track.frames()) == rows for track in found.values())
