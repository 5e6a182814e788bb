import dataclasses
import json

import pytest

from sama_plugin.dialog.sample import Media, Region, Sample, Target, Turn
from sama_plugin.errors import DataError
from sama_plugin.media.prompts import RegionPrompt
from tests.data.factories import grounded_sample, plain_sample, region, text_sample

BOX = Region((RegionPrompt.from_box(2, (1, 2, 9, 8)),), name="cup")
IMAGES = Sample("i", Media("images", ("a.jpg", "b.jpg")), (Turn("<image>\n<image>\nsame?", "no"),))


@pytest.mark.parametrize(
    "sample",
    [
        grounded_sample("clip.npy"),
        plain_sample("clip.npy"),
        text_sample(),
        IMAGES,
        Sample(
            "b", Media("image", "a.png"), (Turn("what is <region>?", None, (BOX,)),), tags=("x",)
        ),
        Sample("s", Media("video", "v.mp4", frame_stride=4), (Turn("what?", "that"),), source="f"),
    ],
    ids=lambda sample: sample.id,
)
def test_json_round_trip(sample):
    assert Sample.from_json(json.loads(json.dumps(sample.to_json()))) == sample


def _with_turn(**changes):
    sample = grounded_sample("clip.npy")
    return dataclasses.replace(
        sample, turns=(dataclasses.replace(sample.turns[0], **changes), sample.turns[1])
    )


@pytest.mark.parametrize(
    "sample,reason",
    [
        (_with_turn(user="what?"), "region_count_mismatch"),
        (_with_turn(regions=()), "region_count_mismatch"),
        (_with_turn(assistant="no mark"), "seg_count_mismatch"),
        (_with_turn(targets=(Target("a"), Target("b"))), "seg_count_mismatch"),
        (_with_turn(assistant=None, targets=()), "bad_field"),
        (_with_turn(user="a <|region|> <region>"), "bad_field"),
        (Sample("x", Media("none"), ()), "no_conversation"),
        (Sample("x", Media("film", "a"), (Turn("a", "b"),)), "bad_field"),
        (Sample("x", Media("none", "a.mp4"), (Turn("a", "b"),)), "bad_field"),
        (Sample("x", Media("video"), (Turn("a", "b"),)), "bad_field"),
        (Sample("x", Media("images", "a.png"), (Turn("<image>", "b"),)), "bad_field"),
        (Sample("x", Media("none"), (Turn("<region>", "b", (BOX,)),)), "missing_media"),
        (dataclasses.replace(IMAGES, turns=(Turn("<image>", "b"),)), "image_placeholder_mismatch"),
    ],
)
def test_disagreements_are_named(sample, reason):
    with pytest.raises(DataError) as caught:
        sample.validate()
    assert caught.value.reason == reason
    assert caught.value.record == sample.id


def test_marks_without_targets_are_text():
    sample = plain_sample("clip.npy")
    assert sample.validate() is sample and not sample.targets


@pytest.mark.parametrize(
    "record,field",
    [
        ({"id": 1, "media": {"kind": "none"}}, "turns"),
        ({"media": {"kind": "none"}, "turns": []}, "id"),
        ({"id": 1, "media": {}, "turns": []}, "kind"),
        ({"id": 1, "media": {"kind": "none"}, "turns": [{"assistant": "a"}]}, "user"),
    ],
)
def test_missing_fields_are_named(record, field):
    with pytest.raises(DataError) as caught:
        Sample.from_json(record)
    assert (caught.value.field, caught.value.reason) == (field, "missing_field")


@pytest.mark.parametrize("record", [[], "text", {"id": 1, "media": 3, "turns": 4}])
def test_wrong_types_are_data_errors(record):
    with pytest.raises(DataError):
        Sample.from_json(record)


def test_views_follow_text_order():
    sample = grounded_sample("clip.npy", region=region(7, 3))
    assert [target.phrase for target in sample.targets] == ["the red ball", "the cup", "the ball"]
    assert sample.regions[0].frames == (3, 7) == sample.pointed_frames
