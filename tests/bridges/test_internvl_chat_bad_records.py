"""Bad records of ours in the host's script: their places are blank, the run goes on and says so."""

from __future__ import annotations

import itertools
import json
import pickle
from functools import partial

import pytest
import torch

from sama_plugin.bridges.internvl_chat.packed_rows import PackedRows, PackLimits
from sama_plugin.bridges.internvl_chat.prepare import allowance
from sama_plugin.data.quarantine import BLANK_LENGTH
from sama_plugin.errors import DataError, PluginError
from sama_plugin.train.bad_records import FILE
from tests.bridges.test_internvl_chat import (  # noqa: F401
    files,
    leave_nothing,
    prepared,
    run,
)
from tests.bridges.test_internvl_chat_own_data import own  # noqa: F401
from tests.bridges.test_internvl_chat_packed import learn, row_of, told
from tests.data.damaged import truncated


@pytest.fixture
def meta(files, tmp_path):  # noqa: F811
    """(meta file, its content): in `grounded` one record is good, one has a damaged clip and one
    lacks its answer."""
    good = json.loads((files / "grounded.jsonl").read_text().splitlines()[0])
    damaged = {**good, "id": "damaged", "video": str(truncated(tmp_path / "cut.mp4"))}
    wordless = {**good, "id": "wordless", "conversations": good["conversations"][:1]}
    lines = [json.dumps(one) + "\n" for one in (good, damaged, wordless)]
    (tmp_path / "grounded.jsonl").write_text("".join(lines))
    content = json.loads((files / "meta.json").read_text())
    content["grounded"]["annotation"] = str(tmp_path / "grounded.jsonl")
    (tmp_path / "meta.json").write_text(json.dumps(content))
    return tmp_path / "meta.json", content


def listed(out):
    return [json.loads(line) for line in (out / FILE).read_text().splitlines()]


@pytest.mark.parametrize("packed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_script_goes_on_and_reports(files, tmp_path, meta, packed):  # noqa: F811
    path, content = meta
    changes = {"per_device_train_batch_size": 7}
    if packed:
        changes = {"per_device_train_batch_size": 1, "use_packed_ds": True, "replacement": True}
    trainer = run(files, tmp_path / "out", meta_path=path, **changes)
    assert trainer.state.global_step == 2 and trainer.canary.masks_seen
    assert all(line["loss"] > 0 for line in trainer.state.log_history if "loss" in line)
    found = {line["record"]: line for line in listed(tmp_path / "out")}
    assert found.keys() == {"grounded/damaged", "grounded/wordless"}
    assert {line["source"] for line in found.values()} == {"grounded"}
    assert all(line["file"] == content["grounded"]["annotation"] for line in found.values())
    assert "cut.mp4" in found["grounded/damaged"]["message"]
    assert found["grounded/wordless"]["reason"] == "role_order"
    assert trainer.state.log_history[-2]["bad_records"] == 2


def test_the_budget_of_the_meta_file_stops_the_run(files, tmp_path, meta):  # noqa: F811
    path, content = meta
    content["grounded"]["budget"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="'grounded': 2 bad records, more than the budget of 1"):
        run(files, tmp_path / "out", meta_path=path, per_device_train_batch_size=7)
    assert len(listed(tmp_path / "out")) == 2


@pytest.mark.slow
def test_a_dataset_without_a_good_record_stops_the_run(files, tmp_path, meta):  # noqa: F811
    path, content = meta
    annotation = tmp_path / "grounded.jsonl"
    annotation.write_text("".join(f"{line}\n" for line in annotation.read_text().splitlines()[1:]))
    with pytest.raises(DataError, match="'grounded': 2 bad records, all there are"):
        run(files, tmp_path / "out", meta_path=path, per_device_train_batch_size=6)


class Part:
    ds_name = "mine"

    def __len__(self):
        return 4


@pytest.mark.parametrize("budget", [-1, 0.5, "10", True])
def test_a_budget_is_a_number_of_records(budget):
    with pytest.raises(PluginError, match="dataset mine: budget .* in the meta file"):
        allowance(Part(), budget)
    assert (allowance(Part(), 3).budget, allowance(Part(), 3).samples) == (3, 4)


def test_bad_lines_of_our_own_file_are_blank_too(files, tmp_path, own):  # noqa: F811
    with open(tmp_path / "own.jsonl", "a") as file:
        file.write('{"id": "odd"}\n')
    changes = {"meta_path": own["meta_path"], "per_device_train_batch_size": 8}
    run(files, tmp_path / "out", *own["more"], max_steps=1, **changes)
    ((line),) = listed(tmp_path / "out")
    assert line["source"] == "own" and line["record"] == "odd"
    (tmp_path / "own.jsonl").write_text('{"id": "odd"}\n')
    with pytest.raises(DataError, match="'own': 1 bad records, all there are.*own.jsonl"):
        run(files, tmp_path / "other", *own["more"], max_steps=1, **changes)


@pytest.fixture
def mixed(prepared):  # noqa: F811
    """(sama, collator, one of ours, one of the host's, the blank of a bad one)."""
    sama, datasets, collate = prepared
    grounded, plain = datasets.datasets
    good = grounded[0]
    grounded.raw_data = ["{cut off", json.dumps(["no", "record"])]
    blank, other = grounded[0], grounded[1]
    assert [one.bad.record for one in (blank, other)] == ["grounded/line 1", "grounded/line 2"]
    assert [one.bad.reason for one in (blank, other)] == ["bad_json", "bad_json"]
    assert (blank.bad.source, len(blank.encoded)) == ("grounded", BLANK_LENGTH)
    return sama, collate, good, plain[0], blank


def test_records_without_id_are_told_apart(prepared):  # noqa: F811
    grounded = prepared[1].datasets[0]
    record = json.loads(grounded.raw_data[0])
    del record["id"]
    good = grounded.raw_data[0]
    grounded.raw_data = [good, *[json.dumps({**record, "video": "gone.npy"})] * 2]
    assert [grounded[n].bad and grounded[n].bad.record for n in range(3)] == [
        None,
        "grounded/line 2",
        "grounded/line 3",
    ]


def test_a_blank_changes_nothing_of_its_neighbours(mixed):
    sama, collate, good, plain, blank = mixed
    text, masks, grads = learn(sama, collate([good, plain]))
    batch = pickle.loads(pickle.dumps(collate))([good, blank, plain])
    assert batch["input_ids"].shape[0] == 3 and len(batch["sama"].bad) == 1
    found = learn(sama, batch)
    torch.testing.assert_close((found[0], found[1]), (text, masks), rtol=1e-5, atol=1e-6)
    for name, grad in grads.items():
        torch.testing.assert_close(found[2][name], grad, rtol=1e-3, atol=1e-5)


def test_a_blank_in_a_packed_row_changes_nothing(mixed):
    from sama_plugin.bridges.internvl_chat.packed_batch import PackedCollator

    sama, collate, good, plain, blank = mixed
    lay = partial(PackedCollator(), data_collator=collate, len2weight=float, max_item_length=0)
    text, masks, _ = learn(sama, told(sama, lay([row_of([good, plain])])))
    carrying = row_of([good, plain])
    carrying.take([blank])
    row = lay([carrying])
    assert row["sama"].bad == (blank.bad,) and int((row["position_ids"] == 0).sum()) == 3
    found = learn(sama, told(sama, row))
    torch.testing.assert_close((found[0], found[1]), (text, masks), rtol=1e-5, atol=1e-6)


def test_blanks_ride_in_packed_rows_and_are_never_a_row(mixed, caplog):
    _, _, good, _, blank = mixed
    one_a_row = PackLimits(tokens=len(good.encoded), images=99, open_rows=9)
    rows = list(PackedRows([[good, blank, good, blank, blank, good]], [1.0], one_a_row))
    assert all(any(item.bad is None for item in row.items) for row in rows) and len(rows) == 3
    carried = sum(item.bad is not None for row in rows for item in row.items)
    said = [r.args[0] for r in caplog.records if "behind the last packed row" in r.getMessage()]
    assert carried + sum(said) == 3, "each is in a row or said"
    assert list(PackedRows([[blank]], [1.0], one_a_row)) == []


def test_nothing_but_bad_records_does_not_go_on_for_ever(mixed):
    again = PackLimits(tokens=99, images=9, open_rows=1, again=True)
    rows = PackedRows([[mixed[-1]]], [1.0], again)
    with pytest.raises(DataError, match="1001 bad records came one after the other, first: "):
        list(itertools.islice(rows, 1))
