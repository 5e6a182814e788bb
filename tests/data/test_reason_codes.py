"""Every reason code that the seeds' README names comes out where it should, also those that no
public seed file shows.

A row is a record with one thing wrong, written over tiny clips of our own, so it does not depend
on which seed files lie below SAMA_DATA.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from sama_plugin.data.formats import read_samples
from sama_plugin.data.report import Quarantine
from sama_plugin.errors import DataError
from sama_plugin.media import masks

from .factories import FRAMES, HEIGHT, WIDTH, square
from .seed_folders import FORMATS, reasons

KEPT, LOST = True, False
RING = [2.0, 4.0, 10.0, 4.0, 10.0, 12.0, 2.0, 12.0]
RLE = masks.encode(square(0))
OTHER_SIZE = {"size": [5, 5], "counts": [0, 25]}
STEMS = [f"{frame:05d}" for frame in range(FRAMES)]
TRACK = [RLE] * FRAMES
ASKED = {"from": "human", "value": "What is <mask>?"}
TOLD = {"from": "gpt", "value": "<p> It </p> [SEG]."}
PLAIN = [{"from": "human", "value": "what?"}, {"from": "gpt", "value": "a ball"}]
REGION = [{"from": "human", "value": "what is <region>?"}, {"from": "gpt", "value": "a ball"}]
NAMED = [{"from": "human", "value": "<region1>?"}, {"from": "gpt", "value": "a ball"}]
BALL = {"token_positives": [2, 6], "rle_masks": [RLE]}


def sama_239k(**changes):
    record = {
        "video": "mevis/clip",
        "video_id": "v",
        "frames": STEMS,
        "anno_map": [1, -1, 2],
        "obj_masks": [[1]],
        "groundtruth": [[[1]]],
        "conversation": [ASKED, TOLD],
        "description": {"<obj0>": "a ball"},
    }
    return [{**record, **changes}]


def videorefer(**changes):
    record = {"id": "v", "video": "mevis/clip", "conversations": REGION}
    return [{**record, "annotation": [{"0": {"segmentation": RLE}}], **changes}]


def osprey(**changes):
    record = {"id": "v", "file_name": "a.png", "annotation": [{"segmentation": RLE}]}
    return [{**record, "conversations": NAMED, **changes}]


def bench(**changes):
    record = {"id": "v", "video": "mevis/clip", "caption": "a ball", "frame_idx": "0"}
    return [{**record, "annotation": [{"0": {"segmentation": RLE}}], **changes}]


def mevis(frames=STEMS, **changes):
    entry = {"exp": "the ball", "anno_id": [1], **changes}
    return {"videos": {"mevis/clip": {"frames": frames, "expressions": {"0": entry}}}}


def grandf(**changes):
    record = {"image_id": "v", "file_name": "a.png", "caption": "A ball rolls"}
    return [{**record, "groundings": {"ball": BALL}, **changes}]


def refcocog(sentence):
    refs = [{"sentence": text, "segmentation": [RING]} for text in ("ball", sentence)]
    return [{"v": {"img_file_name": "a.png", "caption": "a ball rolls", "refs": refs}}]


def refcoco(**changes):
    ref = {"ref_id": 1, "image_id": 7, "ann_id": 3, "split": "train"}
    return [{**ref, "sentences": [{"sent": "the ball"}], **changes}]


def finetune(**changes):
    return [{"image": "a.png", "mask": [[RING]], "text": ["the ball"], **changes}]


def twice(**changes):
    """Two turns in one chunk of SAMA-239K, the second one changed."""
    record = {"obj_masks": [[1], [1]], "groundtruth": [[[1]], [[1]]], **changes}
    return sama_239k(conversation=[ASKED, TOLD, ASKED, TOLD], **record)


QUIET = [ASKED, {"from": "gpt", "value": "A ball."}]
SPLIT = {"split": "testA"}
NO_SEG = {"keep_plain": False}
ROWS = [
    ("no_conversation", "sama_239k", sama_239k(conversation=None), KEPT, {}),
    ("no_conversation", "sama_239k", sama_239k(conversation=[], obj_masks=None), KEPT, {}),
    ("odd_tail", "sama_239k", sama_239k(conversation=[ASKED, TOLD, ASKED]), KEPT, {}),
    ("odd_tail", "videorefer_700k", videorefer(conversations=[*REGION, REGION[0]]), KEPT, {}),
    ("odd_tail", "llava", [{"id": 1, "conversations": [*PLAIN, PLAIN[0]]}], KEPT, {}),
    ("odd_tail", "llava", [{"id": 1, "conversations": [*PLAIN, PLAIN[1]]}], KEPT, {}),
    ("odd_tail", "osprey", osprey(conversations=[*NAMED, NAMED[0]]), KEPT, {}),
    ("role_order", "osprey", osprey(conversations=[NAMED[1], *NAMED]), KEPT, {}),
    ("role_order", "osprey", osprey(conversations=NAMED[:1]), LOST, {}),
    ("no_conversation", "osprey", osprey(conversations=[]), LOST, {}),
    ("role_order", "sama_239k", sama_239k(conversation=[TOLD, ASKED]), KEPT, {}),
    ("role_order", "videorefer_700k", videorefer(conversations=REGION[::-1]), LOST, {}),
    ("role_order", "llava", [{"id": 1, "conversations": PLAIN[::-1]}], LOST, {}),
    ("mask_count_mismatch", "sama_239k", twice(obj_masks=[[1], [1, 1]]), KEPT, {}),
    ("seg_count_mismatch", "sama_239k", twice(groundtruth=[[[1]], [[1], [1]]]), KEPT, {}),
    ("seg_count_mismatch", "sama_239k", twice(groundtruth=[[[1]], [[]]]), KEPT, {}),
    ("no_seg_in_chunk", "sama_239k", sama_239k(conversation=QUIET, groundtruth=[[]]), KEPT, NO_SEG),
    ("missing_mask_id", "sama_239k", twice(obj_masks=[[1], [2]]), KEPT, {}),
    ("missing_mask_id", "mevis", mevis(anno_id=[9]), LOST, {}),
    ("missing_mask_id", "refcoco", refcoco(ann_id=4), LOST, {}),
    ("id_not_in_anno_map", "sama_239k", twice(obj_masks=[[1], [3]]), KEPT, {}),
    ("object_without_mask", "sama_239k", sama_239k(description={"<obj1>": "a"}), KEPT, {}),
    ("bad_object_key", "sama_239k", sama_239k(description={"<thing>": "a"}), KEPT, {}),
    ("object_index_out_of_range", "sama_239k", sama_239k(description={"obj3": "a"}), KEPT, {}),
    ("missing_field", "sama_239k", sama_239k(groundtruth=None), LOST, {}),
    ("missing_field", "videorefer_bench", bench(caption=None), LOST, {}),
    ("region_count_mismatch", "videorefer_700k", videorefer(conversations=PLAIN), LOST, {}),
    ("region_count_mismatch", "osprey", osprey(description=["a", "b"]), LOST, {}),
    ("no_objects", "osprey", osprey(annotation=[]), LOST, {}),
    ("no_objects", "gcg", grandf(groundings={}), LOST, {}),
    (
        "all_masks_absent",
        "videorefer_700k",
        videorefer(annotation=[{"0": {"segmentation": None}}]),
        LOST,
        {},
    ),
    ("all_masks_absent", "sa2va_finetune", finetune(mask=[[]]), LOST, {}),
    ("all_masks_absent", "osprey", osprey(annotation=[{"segmentation": None}]), LOST, {}),
    (
        "frame_out_of_range",
        "videorefer_700k",
        videorefer(annotation=[{str(FRAMES): {"segmentation": RLE}}]),
        LOST,
        {},
    ),
    (
        "frame_out_of_range",
        "videorefer_bench",
        bench(annotation=[{"-1": {"segmentation": RLE}}], frame_idx=-1),
        LOST,
        {},
    ),
    ("frame_out_of_range", "sama_239k", sama_239k(frames=[*STEMS[1:], "00099"]), LOST, {}),
    ("frame_out_of_range", "mevis", mevis([*STEMS[1:], "00099"]), LOST, {}),
    (
        "size_mismatch",
        "videorefer_700k",
        videorefer(annotation=[{"0": {"segmentation": OTHER_SIZE}}]),
        LOST,
        {},
    ),
    (
        "size_mismatch",
        "sama_239k",
        twice(obj_masks=[[1], [1]], groundtruth=[[[1]], [[5]]], anno_map=[1, 5]),
        KEPT,
        {},
    ),
    ("size_mismatch", "mevis", mevis(anno_id=[5]), LOST, {}),
    ("size_mismatch", "refcoco", refcoco(ann_id=5), LOST, {}),
    (
        "size_mismatch",
        "gcg",
        grandf(
            groundings={
                "ball": BALL,
                "roll": {"token_positives": [7, 12], "rle_masks": [OTHER_SIZE]},
            }
        ),
        KEPT,
        {},
    ),
    ("missing_media", "videorefer_700k", videorefer(video="none"), LOST, {}),
    ("missing_media", "mevis", {"videos": {"none": mevis()["videos"]["mevis/clip"]}}, LOST, {}),
    ("missing_media", "refcoco", refcoco(image_id=8), LOST, {}),
    ("missing_media", "gcg", grandf(file_name="none.png"), LOST, {}),
    ("frame_idx_not_annotated", "videorefer_bench", bench(frame_idx=3), LOST, {}),
    ("mask_list_too_short", "mevis", mevis(anno_id=[6]), LOST, {}),
    ("mask_list_too_short", "sama_239k", twice(obj_masks=[[1], [6]], anno_map=[1, 6]), KEPT, {}),
    (
        "polygon_without_size",
        "videorefer_700k",
        videorefer(annotation=[{"0": {"segmentation": [RING]}}]),
        KEPT,
        {},
    ),
    (
        "polygon_without_size",
        "videorefer_vl3",
        [{"image": "a.png", "conversations": REGION, "masks": [[RING]]}],
        KEPT,
        {},
    ),
    ("polygon_without_size", "osprey", osprey(annotation=[{"segmentation": [RING]}]), KEPT, {}),
    ("polygon_without_size", "refcoco", refcoco(image_id=9), KEPT, {}),
    ("empty_expression", "mevis", mevis(exp=" "), LOST, {}),
    ("empty_expression", "refcoco", refcoco(sentences=[{"sent": ""}, {"sent": "it"}]), KEPT, {}),
    ("empty_expression", "sa2va_finetune", finetune(text=[""]), LOST, {}),
    ("empty_expression", "sama_239k", sama_239k(description={"<obj0>": ""}), KEPT, {}),
    (
        "span_outside_caption",
        "gcg",
        grandf(groundings={"ball": BALL, "x": {**BALL, "token_positives": [7, 99]}}),
        KEPT,
        {},
    ),
    ("phrase_not_in_caption", "gcg", refcocog("a cup"), KEPT, {}),
    ("split_without_samples", "refcoco", refcoco(), LOST, SPLIT),
    (
        "too_many_objects",
        "videorefer_700k",
        videorefer(
            conversations=[{**REGION[0], "value": "<region>" * 6}, REGION[1]],
            annotation=[{"0": {"segmentation": RLE}}] * 6,
        ),
        KEPT,
        {},
    ),
    (
        "missing_segmentation_key",
        "videorefer_700k",
        videorefer(annotation=[{"0": {}, "1": {"segmentation": RLE}}]),
        KEPT,
        {},
    ),
    (
        "image_placeholder_mismatch",
        "llava",
        [{"id": 1, "image": "a.png", "conversations": PLAIN}],
        KEPT,
        {},
    ),
    ("bad_json_line", "internvl_meta", '{"id": 1, "image": ', LOST, {}),
]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "mevis" / "clip"
    folder.mkdir(parents=True)
    for stem in STEMS:
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(folder / f"{stem}.png")
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "a.png")
    dictionary = {"1": TRACK, "5": [OTHER_SIZE] * FRAMES, "6": TRACK[:3]}
    for name in ("mask_dict.json", "mevis_mask_dict.json"):
        (tmp_path / name).write_text(json.dumps(dictionary))
    drawn = [{"id": 3, "segmentation": [RING]}, {"id": 5, "segmentation": [OTHER_SIZE]}]
    sized = {"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}
    tables = {"images": [sized, {"id": 9, "file_name": "a.png"}], "annotations": drawn}
    (tmp_path / "instances.json").write_text(json.dumps(tables))
    return tmp_path


@pytest.mark.parametrize(
    "code, name, content, kept, options", ROWS, ids=[f"{row[1]}-{row[0]}" for row in ROWS]
)
def test_a_record_with_one_thing_wrong(root, code, name, content, kept, options):
    lines = isinstance(content, str)
    path = root / ("a.jsonl" if lines else "a.json")
    path.write_text(content if lines else json.dumps(content))
    report = Quarantine()
    try:
        samples = list(read_samples(name, path, root, report, **options))
    except DataError as error:  # of the file as a whole
        samples = []
        report.drop(error)
    assert reasons(report) == {code}
    assert bool(samples) == kept


def test_every_code_of_the_readme_has_a_row(sama_data):
    readme = sama_data / "seeds" / "README.md"
    if not readme.is_file():
        pytest.skip(f"no {readme}")
    codes = re.findall(r"^\| ([a-z_]+) +\|", readme.read_text(), re.M)
    folders = {path.name for path in (sama_data / "seeds").iterdir()} | set(FORMATS)
    missing = set(codes) - folders - {"folder", "code"} - {row[0] for row in ROWS}
    assert codes and not missing
