"""The users' own annotation: the same square in every layout gives the same masks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sama_plugin.data.formats import (
    coco,
    cvat,
    label_studio,
    png_masks,
    polygons,
    swift_objects,
    youtube_vis,
)
from sama_plugin.data.report import Quarantine
from sama_plugin.dialog.sample import Media, Sample, Target, Turn
from sama_plugin.dialog.tokens import SEG
from sama_plugin.errors import DataError
from sama_plugin.media import masks
from sama_plugin.media.tracks import MaskTrack
from tests.data.square import (
    CORNERS,
    HEIGHT,
    MASK,
    RING,
    WIDTH,
    clip,
    only_mask,
    picture,
    reasons,
    write,
)


class TestCoco:
    def tables(self, **changes):
        row = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [RING], **changes}
        return {
            "images": [{"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
            "annotations": [row],
            "categories": [{"id": 3, "name": "cup"}],
        }

    def test_polygons_and_rle_give_the_same(self, tmp_path):
        picture(tmp_path)
        column_major = MASK.T.ravel()
        edges = np.flatnonzero(np.diff(np.r_[False, column_major, False]))
        counts = np.diff(np.r_[0, edges, column_major.size]).tolist()
        for entry in ([RING], masks.encode(MASK), {"size": [HEIGHT, WIDTH], "counts": counts}):
            path = write(tmp_path / "c.json", self.tables(segmentation=entry))
            (sample,) = coco.read(path, tmp_path)
            phrase, mask = only_mask(sample)
            assert phrase == "cup" and (mask == MASK).all()

    def test_caption_is_the_question(self, tmp_path):
        picture(tmp_path)
        path = write(tmp_path / "c.json", self.tables(caption="the cup I like"))
        (sample,) = coco.read(path, tmp_path)
        assert sample.targets[0].phrase == "the cup I like"

    @pytest.mark.parametrize(
        "changes, reason",
        [
            ({"segmentation": []}, "all_masks_absent"),
            ({"category_id": 9}, "missing_field"),
            ({"segmentation": {"size": [9, 9], "counts": [81]}}, "size_mismatch"),
        ],
    )
    def test_bad_annotations(self, tmp_path, changes, reason):
        picture(tmp_path)
        report = Quarantine()
        path = write(tmp_path / "c.json", self.tables(**changes))
        assert not list(coco.read(path, tmp_path, report=report))
        assert reasons(report) == [reason]

    def test_round_trip(self, tmp_path):
        picture(tmp_path)
        path = write(tmp_path / "c.json", self.tables())
        first = list(coco.read(path, tmp_path))
        assert coco.write(first, tmp_path / "again.json", tmp_path) == 1
        (again,) = coco.read(tmp_path / "again.json", tmp_path)
        assert again.turns == first[0].turns
        written = json.loads((tmp_path / "again.json").read_text())["annotations"][0]
        assert written["bbox"] == [6, 4, 8, 8] and written["area"] == 64

    def test_videos_are_refused_by_name(self, tmp_path):
        sample = Sample("v", Media("video", str(tmp_path)), (Turn("a", f"b {SEG}"),))
        with pytest.raises(DataError, match="youtube_vis"):
            coco.write([sample], tmp_path / "c.json", tmp_path)


def test_youtube_vis_round_trip(tmp_path):
    source = clip(tmp_path)
    track = MaskTrack((HEIGHT, WIDTH), 4, {0: masks.encode(MASK), 1: None, 2: None, 3: None})
    turns = (Turn("where?", f"<p> cup </p> {SEG}.", targets=(Target("cup", track),)),)
    sample = Sample("v", Media("video", str(source)), turns)
    assert youtube_vis.write([sample], tmp_path / "y.json", tmp_path) == 1
    (again,) = youtube_vis.read(tmp_path / "y.json", tmp_path)
    assert again.targets[0].track == track and again.media.source == str(source)


class TestPngMasks:
    def test_index_pictures(self, tmp_path):
        clip(tmp_path / "frames")
        folder = tmp_path / "Annotations" / "clip"
        folder.mkdir(parents=True)
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        labels[MASK], labels[0, 0], labels[1, 1] = 2, 1, png_masks.VOID
        masks.write_png(folder / "00000.png", labels)
        masks.write_png(folder / "00002.png", np.zeros_like(labels))
        write(tmp_path / "names.json", {"clip": {"2": "the red cup"}})
        (sample,) = png_masks.read(tmp_path / "Annotations", tmp_path / "frames")
        named, nameless = sample.turns
        assert named.targets[0].phrase == "the red cup" and not named.regions
        assert nameless.regions[0].frames == (0,)
        track = named.targets[0].track
        assert track.frames() == (0, 2) and (track.mask(0) == MASK).all() and track.area(2) == 0

    @pytest.mark.parametrize("name", ["blue mug", "blue_mug"])
    def test_one_picture_an_object(self, tmp_path, name):
        clip(tmp_path / "frames")
        folder = tmp_path / "masks" / "clip" / name
        folder.mkdir(parents=True)
        masks.write_png(folder / "00003.png", MASK.astype(np.uint8) * 255)
        (sample,) = png_masks.read(tmp_path / "masks", tmp_path / "frames")
        assert only_mask(sample)[0] == "blue mug" and sample.targets[0].track.frames() == (3,)

    def test_the_real_folders(self, sama_data):
        for frames in sorted((sama_data / "frames" / "mevis" / "train").glob("*")):
            report = Quarantine()
            samples = list(png_masks.read(sama_data / "masks_png", frames, report=report))
            for sample in samples:
                assert sample.targets and all(t.track.frames() for t in sample.targets)
            assert len(samples) + len(report.dropped) == len(
                list((sama_data / "masks_png").iterdir())
            )


class TestPolygons:
    @pytest.mark.parametrize(
        "shape",
        [
            {"points": CORNERS, "shape_type": "polygon"},
            {"points": [CORNERS[0], CORNERS[2]], "shape_type": "rectangle"},
        ],
    )
    def test_shapes(self, tmp_path, shape):
        picture(tmp_path)
        record = {"imagePath": "a.png", "imageHeight": HEIGHT, "imageWidth": WIDTH}
        path = write(tmp_path / "a.json", {**record, "shapes": [{"label": "cup", **shape}]})
        (sample,) = polygons.read(path, tmp_path)
        phrase, mask = only_mask(sample)
        assert phrase == "cup" and (mask == MASK).all()

    def test_groups_are_united_and_lines_dropped(self, tmp_path):
        picture(tmp_path)
        far = [(20, 4), (24, 4), (24, 8), (20, 8)]
        shapes = [
            {"label": "cup", "points": CORNERS, "group_id": 1},
            {"label": "cup", "points": far, "group_id": 1},
            {"label": "cup", "points": far},
            {"label": "cup", "points": far[:2], "shape_type": "line"},
        ]
        path = write(tmp_path / "a.json", {"imagePath": "..\\a.png", "shapes": shapes})
        report = Quarantine()
        (sample,) = polygons.read(path, tmp_path, report=report)
        assert [t.track.area(0) for t in sample.targets] == [64 + 16, 16]
        assert reasons(report) == ["bad_segmentation"]

    def test_a_wrong_size_is_named(self, tmp_path):
        picture(tmp_path)
        record = {"imagePath": "a.png", "imageHeight": 5, "imageWidth": 5, "shapes": []}
        report = Quarantine()
        assert not list(polygons.read(write(tmp_path / "a.json", record), tmp_path, report=report))
        assert reasons(report) == ["size_mismatch"]


class TestCvat:
    POINTS = ";".join(f"{x},{y}" for x, y in CORNERS)

    def video(self, shapes, source="clip"):
        meta = f"<meta><task><size>4</size><source>{source}</source></task></meta>"
        track = f'<track id="0" label="cup">{shapes}</track>'
        return f"<annotations>{meta}{track}</annotations>"

    def read(self, tmp_path, text, **options):
        clip(tmp_path)
        report = Quarantine()
        path = write(tmp_path / "annotations.xml", text)
        return list(cvat.read(path, tmp_path, report=report, **options)), reasons(report)

    def test_polygon_mask_and_absence(self, tmp_path):
        runs = '<mask frame="1" outside="0" rle="0, 64" left="6" top="4" width="8" height="8"/>'
        polygon = f'<polygon frame="0" outside="0" points="{self.POINTS}"/>'
        gone = f'<polygon frame="3" outside="1" points="{self.POINTS}"/>'
        (sample,), lost = self.read(tmp_path, self.video(polygon + runs + gone))
        track = sample.targets[0].track
        assert track.frames() == (0, 1, 3) and not lost
        assert all((track.mask(frame) == MASK).all() for frame in (0, 1)) and track.area(3) == 0

    @pytest.mark.parametrize("boxes, found", [(True, 1), (False, 0)])
    def test_boxes_only_when_asked(self, tmp_path, boxes, found):
        box = '<box frame="0" xtl="6" ytl="4" xbr="14" ybr="12"/>'
        samples, lost = self.read(tmp_path, self.video(box), boxes=boxes)
        assert len(samples) == found and bool(lost) != bool(found)

    @pytest.mark.parametrize(
        "text, reason",
        [
            ('<polygon frame="9" points="{p}"/>', "frame_out_of_range"),
            ('<polygon frame="0" points="nan,1;2,2"/>', "bad_segmentation"),
            ('<mask frame="0" rle="1, 99999999999" left="0" top="0" width="4" height="4"/>',
             "bad_segmentation"),
        ],
    )  # fmt: skip
    def test_bad_shapes(self, tmp_path, text, reason):
        samples, lost = self.read(tmp_path, self.video(text.format(p=self.POINTS)))
        assert not samples and lost == [reason]

    @pytest.mark.parametrize("text", ['<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "<a>", ""])
    def test_bad_files(self, tmp_path, text):
        with pytest.raises(DataError, match="annotations.xml"):
            self.read(tmp_path, text)

    def test_images(self, tmp_path):
        picture(tmp_path)
        shape = f'<polygon label="cup" points="{self.POINTS}"/>'
        image = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{shape}</image>'
        (sample,), lost = self.read(tmp_path, f"<annotations>{image}</annotations>")
        assert not lost and (only_mask(sample)[1] == MASK).all()


class TestLabelStudio:
    def brush(self, mask, repeats):
        """The mask as Label Studio packs it; with `repeats` rows of one value become runs."""
        rgba = np.repeat(mask.ravel().astype(np.uint8) * 255, 4)
        bits = [f"{rgba.size:032b}", f"{7:05b}", *(f"{width - 1:04b}" for width in (3, 4, 8, 16))]
        if repeats:
            edges = np.flatnonzero(np.diff(rgba)) + 1
            for block in np.split(rgba, edges):
                bits.append(f"1{3:02b}{len(block) - 1:016b}{block[0]:08b}")
        else:
            for block in np.split(rgba, range(200, rgba.size, 200)):
                bits.append(f"0{2:02b}{len(block) - 1:08b}" + "".join(f"{v:08b}" for v in block))
        text = "".join(bits)
        text += "0" * (-len(text) % 8)
        return [int(text[start : start + 8], 2) for start in range(0, len(text), 8)]

    def task(self, value, **changes):
        result = {"original_height": HEIGHT, "original_width": WIDTH, "value": value, **changes}
        annotation = {"was_cancelled": False, "result": [result]}
        return [{"id": 5, "data": {"image": "http://x:8080/data/upload/1/ab12-a.png"},
                 "annotations": [annotation]}]  # fmt: skip

    def read(self, tmp_path, task):
        picture(tmp_path)
        report = Quarantine()
        path = write(tmp_path / "export.json", task)
        return list(label_studio.read(path, tmp_path, report=report)), reasons(report)

    @pytest.mark.parametrize("kind", ["runs", "values", "polygon", "box"])
    def test_kinds(self, tmp_path, kind):
        percent = [(100 * x / WIDTH, 100 * y / HEIGHT) for x, y in CORNERS]
        (left, top), (right, bottom) = percent[0], percent[2]
        value = {
            "runs": {"rle": self.brush(MASK, True), "brushlabels": ["cup"]},
            "values": {"rle": self.brush(MASK, False), "brushlabels": ["cup"]},
            "polygon": {"points": percent, "polygonlabels": ["cup"]},
            "box": {"x": left, "y": top, "width": right - left, "height": bottom - top,
                    "rectanglelabels": ["cup"]},
        }[kind]  # fmt: skip
        (sample,), lost = self.read(tmp_path, self.task(value))
        phrase, mask = only_mask(sample)
        assert phrase == "cup" and (mask == MASK).all() and not lost

    def test_cut_and_lying_brushes(self, tmp_path):
        packed = self.brush(MASK, True)
        bomb = [255, 255, 255, 255, *packed[4:]]
        for rle, reason in ((packed[:-3], "bad_segmentation"), (bomb, "size_mismatch")):
            samples, lost = self.read(tmp_path, self.task({"rle": rle, "brushlabels": ["cup"]}))
            assert not samples and lost == [reason]


class TestSwift:
    def line(self, **changes):
        record = {
            "messages": [
                {"role": "user", "content": "<image>What is <bbox>?"},
                {"role": "assistant", "content": "A <ref-object><bbox> there."},
            ],
            "images": ["a.png"],
            "objects": {"ref": ["cup"], "bbox": [[6, 4, 14, 12], [6, 4, 14, 12]]},
        }
        record.update(changes)
        return json.dumps(record)

    def read(self, tmp_path, line):
        picture(tmp_path)
        report = Quarantine()
        path = write(tmp_path / "d.jsonl", line)
        return list(swift_objects.read(path, tmp_path, report=report)), reasons(report)

    def test_boxes(self, tmp_path):
        (sample,), lost = self.read(tmp_path, self.line())
        (turn,) = sample.turns
        assert turn.user == "What is <region>?" and turn.regions[0].prompts[0].box == (6, 4, 14, 12)
        assert turn.assistant == "A cup[[188, 167, 438, 500]] there." and not lost

    def test_masks_ground_the_answer(self, tmp_path):
        objects = {
            "ref": ["cup"],
            "bbox": [[6 / WIDTH, 4 / HEIGHT, 14 / WIDTH, 12 / HEIGHT]] * 2,
            "bbox_type": "norm1",
            "mask": [None, [RING]],
        }
        (sample,), lost = self.read(tmp_path, self.line(objects=objects))
        (turn,) = sample.turns
        assert turn.assistant == f"A <p> cup </p> {SEG} there." and not lost
        assert (only_mask(sample)[1] == MASK).all()
        assert turn.regions[0].prompts[0].box == pytest.approx((6, 4, 14, 12))

    @pytest.mark.parametrize(
        "changes, reason",
        [
            ({"objects": {"ref": [], "bbox": []}}, "region_count_mismatch"),
            ({"objects": {"ref": ["a", "b"], "bbox": [[1, 2, 3, 4]] * 3}}, "region_count_mismatch"),
            ({"images": []}, "unreadable_media"),
            ({"messages": [{"role": "user", "content": "hi"}]}, "role_order"),
            ({"images": ["../../a.png"]}, "path_outside_root"),
        ],
    )
    def test_bad_lines(self, tmp_path, changes, reason):
        samples, lost = self.read(tmp_path, self.line(**changes))
        assert not samples and lost == [reason]
