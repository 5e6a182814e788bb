"""Published layouts that have no sample folder: files made here say what a reader must find."""

from __future__ import annotations

import numpy as np

from sama_plugin.data.formats import (
    hc_stvg,
    llava,
    reasonvos,
    ref_davis17,
    refcoco,
)
from sama_plugin.data.report import Quarantine
from sama_plugin.dialog.tokens import SEG
from sama_plugin.media import masks
from tests.data.square import (
    HEIGHT,
    MASK,
    RING,
    WIDTH,
    clip,
    picture,
    reasons,
    write,
)


def test_llava_and_chat_univi(tmp_path):
    picture(tmp_path)
    clip(tmp_path)
    said = [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "a cup"}]
    seen = [{"from": "human", "value": "<video>\nwhat?"}, {"from": "gpt", "value": "a cup"}]
    records = [
        {"id": "i", "image": "a.png", "conversations": said},
        {"id": "v", "video": "clip", "conversations": seen},
        {"id": "t", "conversations": [{**said[0], "value": "hi"}, said[1]]},
        {"id": "gone", "image": "b.png", "conversations": said},
    ]
    report = Quarantine()
    path = write(tmp_path / "mix.json", records)
    samples = list(llava.read(path, tmp_path, report=report))
    assert [sample.media.kind for sample in samples] == ["image", "video", "none"]
    assert samples[1].turns[0].user == "what?" and reasons(report) == ["missing_media"]


def test_hc_stvg(tmp_path):
    clip(tmp_path, "a.mp4")  # a folder with a video's name serves
    record = {"bbox": [[6, 4, 8, 8], [6, 4, 8, 8]], "English": "The man waves.", "st_frame": 1}
    content = {"a.mp4": record, "far": record, "b.mp4": {**record, "st_frame": 3}}
    clip(tmp_path, "b.mp4")
    report = Quarantine()
    (sample,) = hc_stvg.read(write(tmp_path / "h.json", content), tmp_path, report=report)
    assert sample.regions[0].frames == (1, 2) and sample.turns[0].assistant == "The man waves."
    assert sample.regions[0].prompts[0].box == (6, 4, 14, 12)
    assert reasons(report) == ["missing_media", "frame_out_of_range"]


def test_ref_davis17_counts_sorted_videos(tmp_path):
    for name in ("a", "b"):
        clip(tmp_path, name)
    frames = [f"{number:05d}" for number in range(4)]
    videos = {
        name: {
            "frames": frames,
            "expressions": {"0": {"exp": f"{name}0"}, "1": {"exp": f"{name}1"}},
        }
        for name in ("b", "a")
    }
    one = np.zeros((HEIGHT, WIDTH), bool)
    dictionary = {}
    for number in range(4):
        one.ravel()[: number + 1] = True
        dictionary[str(number)] = [masks.encode(one)] * 4
    write(tmp_path / "mask_dict.json", dictionary)
    path = write(tmp_path / "meta_expressions.json", {"videos": videos})
    samples = list(ref_davis17.read(path, tmp_path))
    found = {target.phrase: target.track.area(0) for s in samples for target in s.targets}
    assert found == {"a0": 1, "a1": 2, "b0": 3, "b1": 4}


def test_reasonvos(tmp_path):
    clip(tmp_path / "JPEGImages")
    folder = tmp_path / "Annotations" / "mose_clip_3"
    folder.mkdir(parents=True)
    for number in range(4):
        masks.write_png(folder / f"{number:05d}.png", MASK.astype(np.uint8))
    entry = {"exp_text": "what holds tea?", "obj_id": 3}
    lost = {"exp_text": "and this?", "obj_id": 4}
    frames = [f"{number:05d}" for number in range(4)]
    video = {"frames": frames, "source": "MOSE", "expressions": {"0": entry, "1": lost}}
    path = write(tmp_path / "meta_expressions.json", {"videos": {"clip": video}})
    report = Quarantine()
    (sample,) = reasonvos.read(path, tmp_path / "JPEGImages", report=report)
    assert sample.tags == ("mose",) and sample.targets[0].track.area(2) == 64
    assert reasons(report) == ["missing_mask_id"]


def test_grefcoco_unites_several_and_says_when_there_is_none(tmp_path):
    picture(tmp_path)
    far = [20, 4, 24, 4, 24, 8, 20, 8]
    tables = {
        "images": [{"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": [
            {"id": 1, "image_id": 7, "segmentation": [RING]},
            {"id": 2, "image_id": 7, "segmentation": [far]},
        ],
    }
    write(tmp_path / "instances.json", tables)
    refs = [
        {"ref_id": 0, "image_id": 7, "split": "train", "ann_id": [1, 2],
         "sentences": [{"sent": "both cups"}]},
        {"ref_id": 1, "image_id": 7, "split": "train", "ann_id": [-1], "no_target": True,
         "sentences": [{"sent": "a dog"}]},
        {"ref_id": 2, "image_id": 7, "split": "train", "ann_id": [9],
         "sentences": [{"sent": "lost"}]},
    ]  # fmt: skip
    report = Quarantine()
    path = write(tmp_path / "grefs(unc).json", refs)
    (sample,) = refcoco.read(path, tmp_path, report=report)
    both, none = sample.turns
    assert both.targets[0].track.area(0) == 64 + 16
    assert not none.targets and SEG not in none.assistant
    assert reasons(report) == ["missing_mask_id"]
