"""What a writer wrote, its parser reads back; and what files and paths can do wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from sama_plugin.data.formats import (
    FORMATS,
    files,
    internvl_meta,
    ref_youtube_vos,
    sama,
    sama_239k,
    sama_bench,
    videorefer_700k,
    videorefer_bench,
)
from sama_plugin.data.formats.segmentations import read_segmentation
from sama_plugin.data.library import Library
from sama_plugin.data.report import Quarantine
from sama_plugin.dialog.sample import Media, Region, Sample, Target, Turn
from sama_plugin.errors import DataError, OutputError
from sama_plugin.media import masks
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.video import open_video
from tests.data.factories import (
    FRAMES,
    grounded_sample,
    plain_sample,
    region,
    square,
    text_sample,
    track,
    write_clip,
)

BOX = Region((RegionPrompt.from_box(2, (1, 2, 9, 8)),), name="cup")


@pytest.fixture
def root(tmp_path):
    write_clip(tmp_path / "clip.npy")
    folder = tmp_path / "mevis" / "frames"
    folder.mkdir(parents=True)
    for frame, picture in enumerate(np.load(tmp_path / "clip.npy")):
        Image.fromarray(picture).save(folder / f"{frame:05d}.png")
    return tmp_path


def without_source(samples):
    return [dataclasses.replace(sample, source="") for sample in samples]


def referring(source):
    turns = (
        Turn("what is <region>?", "a ball.", regions=(region(2, 5),)),
        Turn("is <region> behind <region>?", "no.", regions=(region(1), region(4))),
    )
    return Sample("r", Media("video", source), turns)


def described(sample, text="a ball"):
    turn = Turn(videorefer_bench.DESCRIBE, text, (region(3, 7),))
    return dataclasses.replace(sample, turns=(turn,))


class TestRoundTrips:
    def test_sama(self, root):
        clip = str(root / "clip.npy")
        image = str(root / "mevis" / "frames" / "00003.png")
        turns = (Turn("what is <region>?", "a ball", (BOX,)),)
        samples = [
            grounded_sample(clip),
            text_sample(),
            Sample("i", Media("image", image), turns, tags=("x",)),
            Sample("j", Media("images", (image, image)), (Turn("<image><image>", "same"),)),
        ]
        path = root / "all.jsonl"
        assert sama.write(samples, path, root) == 4
        assert str(root) not in path.read_text(), "paths are relative"
        assert without_source(sama.read(path, root)) == samples
        lazy = sama.LazyLines(path, root)
        assert without_source(lazy[i] for i in range(len(lazy))) == samples
        assert lazy.grounded.tolist() == [True, False, False, False]

    def test_videorefer_700k(self, root):
        image = Media("image", str(root / "mevis" / "frames" / "00003.png"))
        still = Turn("what is <region>?", "a ball", (region(0),))
        samples = [
            referring(str(root / "clip.npy")),
            Sample("i", image, (still,)),
            Sample("t", Media("none"), (Turn("hello", "hi"),)),
        ]
        path = root / "700k.json"
        assert videorefer_700k.write(samples, path, root) == 3
        assert without_source(videorefer_700k.read(path, root)) == samples

    def test_videorefer_700k_holds_masks_only(self, root):
        sample = referring(str(root / "clip.npy"))
        turn = Turn("what is <region>?", "x", (BOX,))
        with pytest.raises(DataError, match="masks only"):
            boxed = dataclasses.replace(sample, turns=(turn,))
            videorefer_700k.write([boxed], root / "x.json", root)
        assert not (root / "x.json").exists(), "no half-written file"

    @pytest.mark.parametrize("mode", ["single", "multi"])
    def test_videorefer_bench(self, root, mode):
        base = referring(str(root / "clip.npy"))
        question = (
            "What does <region> do? (A) It runs (B) It stops. " + videorefer_bench.LETTER_ONLY
        )
        choice = Turn(question, "B", (region(3, 7),))
        samples = [
            dataclasses.replace(described(base), id="0"),
            dataclasses.replace(base, id="1", turns=(choice,), tags=("Basic",)),
        ]
        path = root / "bench.json"
        videorefer_bench.write(samples, path, root)
        found = without_source(videorefer_bench.read(path, root, mode=mode))
        if mode == "multi":
            assert found == samples
        else:
            assert [sample.regions[0].frames for sample in found] == [(3,), (3,)]

    def test_ref_youtube_vos(self, root):
        source = str(root / "mevis" / "frames")
        part = track(known=range(FRAMES), hidden=(4,))
        turns = [
            Turn("x", "[SEG]", targets=(Target(f"ball {number}", part),)) for number in range(12)
        ]
        sample = Sample("v", Media("video", source), tuple(turns))
        path = root / "vos" / "meta_expressions.json"
        assert ref_youtube_vos.write([sample], path, root) == 12
        found = list(ref_youtube_vos.read(path, root, expressions_per_sample=99))
        phrases = {target.phrase: target.track for target in found[0].targets}
        assert phrases == {f"ball {number}": part for number in range(12)}
        assert found[0].media == sample.media

    def test_internvl_meta(self, root):
        clip = str(root / "clip.npy")
        image = str(root / "mevis" / "frames" / "00003.png")
        samples = [
            grounded_sample(clip),
            plain_sample(clip),
            text_sample(),
            Sample("j", Media("images", (image, image)), (Turn("<image>\n<image>\n?", "same"),)),
            Sample("i", Media("image", image), (Turn("what is <region>?", "a ball", (BOX,)),)),
        ]
        assert internvl_meta.write(samples, root / "chat.jsonl", root) == 5
        assert without_source(internvl_meta.read(root / "chat.jsonl", root)) == samples
        entry = internvl_meta.Entry("chat", ".", "chat.jsonl", 0.5, 5)
        internvl_meta.write_meta([entry], root / "meta.json")
        found = list(internvl_meta.read(root / "meta.json", root))
        assert [sample.id for sample in found] == ["chat/grounded", "chat/plain"]

    def test_sama_239k(self, root):
        source = str(root / "mevis" / "frames")
        whole = region(*range(FRAMES))
        turn = Turn(
            "What does <region> do?" + sama_239k.SUFFIX,
            "<p> The ball </p> [SEG] runs.",
            (whole,),
            (Target("The ball", track()),),
        )
        plain = Turn("What is <region>?", "It is red.", (whole,))
        described = Turn(sama_239k.DESCRIBE[0].format("<region>"), "It runs.", (whole,))
        sample = Sample("v", Media("video", source), (turn, plain, described))
        path = root / "sama239k.json"
        assert sama_239k.write([sample], path, root) == 1
        chat, description = sama_239k.read(path, root)
        assert (chat.id, chat.media, chat.turns) == ("v#c0", sample.media, (turn, plain))
        assert (description.id, len(description.turns)) == ("v#d0", 1)
        assert description.turns[0].regions == (whole,)
        assert description.turns[0].assistant == "It runs."
        masks_written = json.loads((root / "mevis_mask_dict.json").read_text())
        assert len(masks_written) == 1, "region and target with the same masks are one object"

    def test_sama_239k_never_writes_unknown_as_absent(self, root):
        source = str(root / "mevis" / "frames")
        turn = Turn("x?", "<p> a </p> [SEG]", targets=(Target("a", track(known=(0, 1))),))
        with pytest.raises(DataError, match="not known on every"):
            sample = Sample("v", Media("video", source), (turn,))
            sama_239k.write([sample], root / "x.json", root)

    def test_sama_bench(self, root):
        source = str(root / "mevis" / "frames")
        whole = region(*range(FRAMES))
        asked = Turn(
            "Who runs?" + sama_239k.SUFFIX, "<p> It </p> [SEG]", (), (Target("It", track()),)
        )
        described = Turn(sama_bench.DESCRIBE, "A ball.", (whole,))
        sample = Sample("v", Media("video", source), (asked, described))
        sama_bench.write([sample], root / "mevis.json", root)
        found = {one.id: one.turns for one in sama_bench.read(root / "mevis.json", root)}
        assert found == {"v_0": (asked,), "v_obj0": (described,)}


class TestFiles:
    def test_byte_order_mark_is_accepted(self, tmp_path):
        (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
        assert files.load_json(tmp_path / "a.json") == [1]

    @pytest.mark.parametrize("text", ['[{"a": 1', "", "[NaN]", "[Infinity]", "[" * 100_000])
    def test_damaged_json_names_the_file(self, tmp_path, text):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(DataError, match="a.json.*not valid JSON"):
            files.load_json(tmp_path / "a.json")

    def test_pickles_of_containers_are_read(self, tmp_path):
        content = {"0": [None, {"size": [2, 2], "counts": "04"}]}
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
        assert files.load(tmp_path / "a.pkl") == content

    def test_pickles_with_code_are_refused_not_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "ran"),)

        (tmp_path / "a.pkl").write_bytes(pickle.dumps(Evil()))
        with pytest.raises(DataError, match="a.pkl.*not a plain pickle.*mkdir"):
            files.load_pickle(tmp_path / "a.pkl")
        assert not (tmp_path / "ran").exists()

    def test_unwritable_outputs_are_output_errors(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError):
            sama.write([], tmp_path / "file" / "x.jsonl", tmp_path)


class TestLines:
    def write(self, root, *lines):
        (root / "a.jsonl").write_text("\n".join(lines) + "\n")
        return root / "a.jsonl"

    def test_bad_lines_are_set_aside_one_by_one(self, root):
        good = json.dumps(sama._portable(grounded_sample(str(root / "clip.npy")), root).to_json())
        missing = good.replace("clip.npy", "gone.npy").replace('"grounded"', '"b"')
        path = self.write(root, good, "{", good, "", "[]", missing)
        report = Quarantine()
        assert [sample.id for sample in sama.read(path, root, report=report)] == ["grounded"]
        assert [error.reason for error in report.dropped] == [
            "bad_json_line",
            "duplicate_id",
            "bad_json_line",
            "missing_media",
        ]
        assert all(str(path) in str(error) for error in report.dropped)

    def test_lazy_lines_name_file_and_line(self, root):
        path = self.write(root, "{")
        with pytest.raises(DataError, match="a.jsonl.*line 1"):
            sama.LazyLines(path, root)[0]

    def test_bytes_that_are_no_text_cost_their_line_alone(self, root):
        """In a check and in a worker; lines are counted as an editor counts them."""
        good = json.dumps(sama._portable(grounded_sample(str(root / "clip.npy")), root).to_json())
        path = root / "a.jsonl"
        other = good.replace('"grounded"', '"other"').encode()
        path.write_bytes(b"\n".join([good.encode(), b"", b'{"id": "caf\xe9"}', other]))
        report = Quarantine()
        assert [one.id for one in sama.read(path, root, report=report)] == ["grounded", "other"]
        assert [(one.record, one.reason) for one in report.dropped] == [("line 3", "bad_json_line")]
        lazy = sama.LazyLines(path, root)
        with pytest.raises(DataError, match="a.jsonl: record line 3: .*not valid JSON"):
            lazy[1]
        assert len(lazy) == 3 and lazy[2].id == "other"


class TestLibrary:
    @pytest.mark.parametrize(
        "name,reason",
        [
            ("../outside.mp4", "path_outside_root"),
            ("a/../../outside.mp4", "path_outside_root"),
            ("gone.mp4", "missing_media"),
            ("loop", "missing_media"),
            ("", "missing_field"),
            (None, "missing_field"),
            (7, "missing_field"),
        ],
    )
    def test_paths_that_lead_nowhere(self, root, name, reason):
        (root / "inner").mkdir()
        (root / "inner" / "loop").symlink_to(root / "inner" / "loop")
        (root / "outside.mp4").write_text("x")
        with pytest.raises(DataError) as caught:
            Library(root / "inner").find(name, record=1)
        assert caught.value.reason == reason

    def test_links_out_of_the_root_are_allowed(self, root):
        (root / "inner").mkdir()
        (root / "inner" / "there.npy").symlink_to(root / "clip.npy")
        assert Library(root / "inner").find("there.npy")

    def test_facts(self, root):
        library = Library(root)
        for name in ("clip.npy", "mevis/frames"):
            facts = library.facts(library.find(name))
            assert (facts.frames, facts.height, facts.width) == (FRAMES, 24, 32)

    def test_unreadable_media_is_a_data_error(self, root):
        (root / "text.mp4").write_text("not a video")
        with pytest.raises(DataError) as caught:
            Library(root).facts(str(root / "text.mp4"))
        assert caught.value.reason == "unreadable_media"
        assert Library(root, probe=False).facts(str(root / "text.mp4")) is None

    @pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n cut off"])
    def test_a_folder_that_begins_with_a_damaged_picture_is_a_data_error(self, root, content):
        (root / "frames").mkdir()
        (root / "frames" / "00000.jpg").write_bytes(content)
        with pytest.raises(DataError, match="00000.jpg is not a picture") as caught:
            Library(root, probe=False).facts(str(root / "frames"))
        assert caught.value.reason == "unreadable_media"

    @pytest.mark.parametrize("end", ["jpg", "png"])
    @pytest.mark.parametrize("held", [1, 3, 6, 8])
    def test_pictures_have_the_size_that_they_are_read_in(self, root, held, end):
        exif = Image.Exif()
        exif[0x0112] = held
        (root / "held").mkdir()
        Image.new("RGB", (32, 24)).save(root / "held" / f"00000.{end}", exif=exif)
        facts = Library(root).facts(str(root / "held"))
        assert (facts.height, facts.width) == open_video(root / "held").size
        assert (facts.height > facts.width) == (held > 4)


class TestSegmentations:
    MASK = square(3)
    RLE = masks.encode(MASK)

    def test_spellings_of_one_mask(self):
        counts = masks.run_lengths(self.RLE)
        long = {"size": [24, 32], "counts": [int(run) for run in counts]}
        top, bottom = self.MASK.copy(), self.MASK.copy()
        top[8:], bottom[:8] = False, False
        for entry in (self.RLE, long, [masks.encode(top), masks.encode(bottom)]):
            assert read_segmentation(entry, (24, 32)) == self.RLE

    @pytest.mark.parametrize("entry", [None, [], masks.encode(np.zeros((24, 32), bool))])
    def test_absence(self, entry):
        assert read_segmentation(entry, (24, 32)) is None

    @pytest.mark.parametrize(
        "entry,reason",
        [
            ({"size": [10, 12], "counts": "0h3"}, "size_mismatch"),
            ({"size": [10**6, 10**6], "counts": "0h3"}, "bad_segmentation"),
            ({"size": [24], "counts": "0h3"}, "bad_segmentation"),
            ({"counts": "0h3"}, "bad_segmentation"),
            ({"size": [24, 32], "counts": [1, 2]}, "bad_segmentation"),
            ({"size": [24, 32], "counts": "~~"}, "bad_segmentation"),
            ("text", "bad_segmentation"),
            ([[1.0, 2.0]], "bad_segmentation"),
            ([["a", "b", "c", "d", "e", "f"]], "bad_segmentation"),
        ],
    )
    def test_damage_is_named(self, entry, reason):
        with pytest.raises(DataError) as caught:
            read_segmentation(entry, (24, 32))
        assert caught.value.reason == reason

    def test_polygons_need_a_size(self):
        polygon = [[2.0, 2.0, 9.0, 2.0, 9.0, 9.0]]
        assert masks.area(read_segmentation(polygon, (24, 32)))
        with pytest.raises(DataError) as caught:
            read_segmentation(polygon)
        assert caught.value.reason == "polygon_without_size"


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_format_reads(name):
    assert callable(FORMATS.get(name).read)
