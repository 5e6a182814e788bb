"""Benchmark files with something wrong in them: no crash, and no question leaves without a word."""

from __future__ import annotations

import json
import re

import pytest

from sama_plugin.errors import DataError, SamaError
from sama_plugin.eval import harness
from sama_plugin.eval.asking import Prediction
from sama_plugin.miniworld.write import write_world
from tests.data.test_bad_input import places, replaced
from tests.eval.test_end_to_end import FILES, SEEDS, Made
from tests.eval.test_harness import grounded, material, square
from tests.eval.test_hashes import Benchmark

WRONG = ("x", 7, None, -1.5, [[]], True, "", [], {})
BESIDE = ("mask_dict.json", "instances.json", "mevis_mask_dict.json")
OF_THE_WORLD = [*FILES, "ref-davis17", "ref-youtube-vos", "revos", "reasonvos", "gcg-video"]
OF_SEEDS = ["refcoco", "grefcoco", "gcg", "hc-stvg", "ref-sav"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, "heldout", 1)
    return folder


def questions(name, file, root):
    """(cases, questions that are named as not read)."""
    found = harness.read_material(name, file, root).summary()
    return found["cases"], found["questions_not_read"]["count"]


def damage_everywhere(name, file, root, work, most):
    """The files of a benchmark, each with one field of another kind at a time."""
    for other in file.parent.iterdir():
        (work / other.name).symlink_to(other.resolve())
    whole, known = questions(name, work / file.name, root)
    assert whole
    for victim in {file.name, *BESIDE} & {path.name for path in work.iterdir()}:
        content = json.loads((work / victim).read_text("utf-8-sig"))
        (work / victim).unlink()
        for number, path in enumerate(places(content, most)):
            wrong = WRONG[number % len(WRONG)]
            if wrong in ([], {}) and path[-1] != "conversation":
                continue  # no turns, no masks: fewer, and right
            (work / victim).write_text(json.dumps(replaced(content, path, wrong)))
            try:
                cases, lost = questions(name, work / file.name, root)
            except SamaError:
                continue  # the file as a whole, by name
            assert cases >= whole or lost > known, (victim, path, wrong)
        (work / victim).unlink()
        (work / victim).write_text(json.dumps(content))


@pytest.mark.parametrize("name", OF_THE_WORLD)
def test_no_question_of_the_mini_world_leaves_in_silence(name, world, tmp_path):
    made = {"revos": "revos", "reasonvos": "reasonvos", "gcg-video": "gcg_video"}.get(name)
    (tmp_path / "made").mkdir()
    (tmp_path / "work").mkdir()
    if made:
        file, root = getattr(Made(world, tmp_path / "made"), made)()
    elif name in FILES:
        file, root = world / FILES[name], world
    else:
        file, root = Made(world, tmp_path / "made").ref_davis17()
    damage_everywhere(name, file, root, tmp_path / "work", 20)


@pytest.mark.parametrize("name", OF_SEEDS)
def test_no_question_of_a_real_layout_leaves_in_silence(name, sama_data, tmp_path):
    file, root = SEEDS[name]
    damage_everywhere(name, sama_data / "seeds" / file, sama_data / root, tmp_path, 20)


def read(one):
    return harness.read_material(one.name, one.folder / one.FILE, one.folder / "frames")


ENTRIES = [
    ("revos", {"type_id": None}, "field 'type_id': no known kind; expected 0 (referring), 1"),
    ("revos", {"anno_id": 0}, "anno_id is no list of annotation ids; found 0"),
    ("reasonvos", {"obj_id": 9}, "an annotation picture is missing"),
    ("ref-youtube-vos", {"obj_id": "x"}, "a field has the wrong kind"),
    ("ref-youtube-vos", {"exp": ""}, "the expression is empty"),
]


@pytest.mark.parametrize(("name", "change", "said"), ENTRIES)
def test_an_expression_with_something_wrong_is_named(name, change, said, tmp_path):
    one = Benchmark(name, tmp_path)
    one.change(lambda videos: videos["clip"]["expressions"].update({"1": {**one.entry, **change}}))
    found = read(one).summary()
    assert found["cases"] == 1 and found["questions_not_read"]["count"] == 1
    assert said in found["questions_not_read"]["first"][0]


def test_a_picture_that_is_none_costs_its_expressions(tmp_path):
    one = Benchmark("reasonvos", tmp_path)
    folder = tmp_path / "Annotations" / "own_clip_2"
    folder.mkdir()
    for file in (tmp_path / "Annotations" / "own_clip_1").iterdir():
        (folder / file.name).write_bytes(b"no picture")
    entry = {**one.entry, "obj_id": 2}
    one.change(lambda videos: videos["clip"]["expressions"].update({"1": entry}))
    found = read(one).summary()
    assert found["cases"] == 1 and "cannot read mask" in found["questions_not_read"]["first"][0]


def test_masks_without_frames_are_odd(tmp_path):
    one = Benchmark("revos", tmp_path)
    one.change(lambda videos: videos["clip"].update(frames=["00000"]))
    (odd,) = read(one).summary()["odd_records"]["first"]
    assert "record clip: more masks than listed frames" in odd and "found 2; expected 1" in odd


def test_expressions_taken_out_would_shift_the_masks_of_others(world, tmp_path):
    file, root = Made(world, tmp_path).ref_davis17()
    content = json.loads(file.read_text())
    (video,) = content["videos"].values()
    del video["expressions"]["0"]
    (tmp_path / "mask_dict.json").symlink_to(file.with_name("mask_dict.json"))
    (tmp_path / file.name).write_text(json.dumps(content))
    with pytest.raises(DataError, match="the others would get wrong masks"):
        questions("ref-davis17", tmp_path / file.name, root)


def test_no_masks_at_all_stop_before_anything_is_asked(tmp_path):
    one = Benchmark("revos", tmp_path)
    (tmp_path / "mask_dict.json").unlink()
    with pytest.raises(DataError, match="nothing to score an answer against: .* no masks beside"):
        read(one)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"caption": " "}, "not read: nothing to score an answer against"),
        ({"annotation": None}, "not read: field 'annotation': a required field is absent"),
        ("no mask", "odd: field 'annotation': an object has no mask on frame"),
    ],
)
def test_a_description_with_something_wrong_is_named(change, said, world, tmp_path):
    (record, *_) = json.loads((world / FILES["videorefer-bench-d"]).read_text())
    nothing = [{str(record["frame_idx"]): {"segmentation": None}}]
    change = {"annotation": nothing} if change == "no mask" else change
    file = tmp_path / "d.json"
    file.write_text(json.dumps([record, {**record, "id": "other", **change}]))
    found = harness.read_material("videorefer-bench-d", file, world).summary()
    lists = {"not read": found["questions_not_read"], "odd": found["odd_records"]}
    which, _, words = said.partition(": ")
    assert [name for name, one in lists.items() if one["count"]] == [which]
    assert "record other" in lists[which]["first"][0] and words in lists[which]["first"][0]


def test_masks_that_the_rules_of_sama_bench_change_are_odd(world, tmp_path):
    records = json.loads((world / "sama_bench.json").read_text())
    for record in records:
        record["height"], record["width"] = 10, 20
    (tmp_path / "sama_bench.json").write_text(json.dumps(records))
    masks = json.loads((world / "mevis_mask_dict.json").read_text())
    (tmp_path / "mevis_mask_dict.json").write_text(
        json.dumps({key: entries[:-1] for key, entries in masks.items()})
    )
    found = harness.read_material("sama-bench-g", tmp_path / "sama_bench.json", world).summary()
    said = " ".join(found["odd_records"]["first"])
    assert "masks are resized to the clip" in said and "expected (10, 20)" in said
    assert "fewer masks than the clip has frames; the rest is empty" in said


TRACK = {"size": [12, 16], "total": 3, "rles": {}}


def damaged(counts):
    return {**TRACK, "rles": {"0": {"size": [12, 16], "counts": counts}}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": None}, "record a: field 'text': not the record of an answer; expected str"),
        ({"plain": 5}, "record a: field 'plain': not the record of an answer; found 5"),
        ({"tracks": None}, "record a: field 'tracks': not the record of an answer"),
        ({"tracks": [{"x": 1}]}, "record a: field 'tracks': not a mask track"),
        ({"tracks": [{**TRACK, "size": "a"}]}, "record a: field 'tracks': not a mask track"),
        ({"tracks": [{**TRACK, "rles": {"0": {"size": [12, 16]}}}]}, "not a mask track"),
        ({"tracks": [damaged("09")]}, "record a: field 'counts': the runs of an RLE do not fill"),
        ({"tracks": [damaged("!!~")]}, "record a: field 'counts': damaged counts"),
        ({"tracks": [damaged([1, 2])]}, "record a: field 'counts': the runs of an RLE do not fill"),
        ({"id": ["a"]}, "record line 2: a line has no id of its own"),
        ({"id": "z"}, "record z: 1 predictions are for cases that the benchmark does not have"),
    ],
)
def test_a_line_that_is_no_answer_is_named(change, said, tmp_path):
    found = material([grounded("a", "v", square(1))])
    harness.predict(found, lambda cases: map(empty, cases), tmp_path, {})
    file = tmp_path / harness.PREDICTIONS
    run, line = map(json.loads, file.read_text().splitlines())
    file.write_text(f"{json.dumps(run)}\n{json.dumps({**line, **change})}\n")
    with pytest.raises(DataError, match=re.escape(f"{file}: ") + ".*" + re.escape(said)):
        dict(harness.predict(found, lambda cases: map(empty, cases), tmp_path, {}))


def empty(case):
    return Prediction(case.key)
