"""Records that break while training: the run goes on without them, says so, has a budget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from sama_plugin.data.mixture import MixtureDataset
from sama_plugin.data.report import BadRecord, Quarantine
from sama_plugin.data.sources import Source, SourceConfig
from sama_plugin.errors import DataError
from sama_plugin.train.bad_records import FILE, Allowance, BadRecords, allowances
from sama_plugin.train.run import build_trainer, train
from sama_plugin.train.saving import newest_checkpoint
from sama_plugin.train.trainer import SamaTraining
from tests.conftest import REPOSITORY
from tests.data.damaged import lying, truncated
from tests.data.factories import grounded_sample, plain_sample, text_sample, write_clip
from tests.train.factories import history, tiny_run, write_data
from tests.train.test_resume import StopAt, adapter

LOST = BadRecord("train", "data.jsonl", "lost", "unreadable_media", "gone")


@pytest.fixture
def data(tmp_path):
    """Six samples, two of them bad."""
    folder = tmp_path / "data"
    folder.mkdir()
    clip = write_clip(folder / "clip.npy")
    bad = [
        plain_sample(truncated(folder / "truncated.mp4"), "truncated"),
        plain_sample(lying(folder / "lying.mp4"), "lying"),
    ]
    good = [grounded_sample(clip), plain_sample(clip), text_sample(), plain_sample(clip, "more")]
    return write_data(folder, [*good, *bad])


def lines(out: Path):
    return [json.loads(line) for line in (out / FILE).read_text().splitlines()]


def unworded(out: Path):
    """Without messages: which frame of a file is named depends on decord's reading ahead."""
    return [{**line, "message": ""} for line in lines(out)]


@pytest.fixture
def seen(monkeypatch):
    """Names of the samples of every micro-step, and its loss."""
    found = []
    compute_loss = SamaTraining.compute_loss

    def recording(self, model, inputs, *args, **kwargs):
        loss = compute_loss(self, model, inputs, *args, **kwargs)
        found.append((tuple(inputs["sama"].sample_ids), float(loss)))
        return loss

    monkeypatch.setattr(SamaTraining, "compute_loss", recording)
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_the_run_goes_on_and_reports(data, tmp_path, seen, workers):
    out = tmp_path / "out"
    result = train(tiny_run(data, out, steps=12, save_every=12, workers=workers))
    assert result.steps == 12 and len(seen) == 12
    assert sorted(name for (name,), _ in seen[:6]) == sorted(name for (name,), _ in seen[6:])
    blank = {"truncated", "lying"}
    assert all((loss == 0) == (name in blank) for (name,), loss in seen)
    found = lines(out)
    assert {line["record"] for line in found} == blank and len(found) == 2
    steps = [1 + number for number, ((name,), _) in enumerate(seen[:6]) if name in blank]
    assert [line["step"] for line in found] == steps
    assert all(line["source"] == "train" and line["record"] in line["message"] for line in found)
    assert [line.get("bad_records", 0) for line in history(out)] == [
        sum(step <= number for step in steps) for number in range(1, 13)
    ]


def test_workers_train_the_same(data, tmp_path):
    settings = {"steps": 7, "save_every": 7, "batch_size": 2}
    for workers in (0, 2):
        out = tmp_path / str(workers)
        train(tiny_run(data, out, workers=workers, prefetch=1 + workers, **settings))
    one, two = adapter(tmp_path / "0"), adapter(tmp_path / "2")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert unworded(tmp_path / "0") == unworded(tmp_path / "2")


class Delete(TrainerCallback):
    """Removes a file at the end of a step."""

    def __init__(self, step, file):
        self.step, self.file = step, file

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.file.unlink()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_deleted_in_the_middle_of_an_epoch(tmp_path, seen, workers):
    folder = tmp_path / "data"
    folder.mkdir()
    samples = [
        plain_sample(write_clip(folder / f"{number}.npy"), f"{number}") for number in range(12)
    ]
    config = tiny_run(
        write_data(folder, samples), tmp_path / "out", steps=12, workers=workers, prefetch=1
    )
    order = [
        item.sample.id for item in map(build_trainer(config).train_dataset.__getitem__, range(12))
    ]
    last = order[11]  # far behind what the workers have read ahead in step 3
    train(config, callbacks=[Delete(3, folder / f"{last}.npy")])
    assert [name for (name,), _ in seen] == order
    assert [name for (name,), loss in seen if loss == 0] == [last]
    (line,) = lines(tmp_path / "out")
    assert line["reason"] == "missing_media" and line["step"] == 12


@pytest.mark.slow
def test_a_resumed_run_counts_what_a_straight_one_does(data, tmp_path, seen):
    settings = {"steps": 8, "save_every": 4}
    train(tiny_run(data, tmp_path / "straight", **settings))
    straight = list(seen)
    seen.clear()
    halves = tmp_path / "halves"
    train(tiny_run(data, halves, **settings), callbacks=[StopAt(4)])
    with open(halves / FILE, "a") as file:  # of a step behind the checkpoint, and half a line
        later = {"step": 5, "source": "train", "file": "f", "record": "later"}
        file.write(json.dumps({**later, "reason": "r", "message": "m"}) + '\n{"step": 6, "sou')
    train(tiny_run(data, halves, **settings), resume=True)
    assert seen == straight and unworded(halves) == unworded(tmp_path / "straight")
    one, two = adapter(halves), adapter(tmp_path / "straight")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_more_than_the_budget_stops_the_run(data, tmp_path):
    config = tiny_run(data, tmp_path / "out", steps=12, save_every=1)
    config.data[0].budget = 1
    with pytest.raises(DataError, match="2 bad records, more than the budget of 1") as caught:
        train(config)
    assert FILE in str(caught.value) and caught.value.reason == "budget"
    assert len(lines(tmp_path / "out")) == 2
    assert (
        newest_checkpoint(tmp_path / "out").name
        == f"checkpoint-{lines(tmp_path / 'out')[1]['step'] - 1}"
    )


def test_a_source_without_a_good_record_stops_the_run(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    samples = [plain_sample(truncated(folder / f"{n}.mp4"), f"{n}") for n in range(2)]
    with pytest.raises(DataError, match="'train': 2 bad records, all there are"):
        train(tiny_run(write_data(folder, samples), tmp_path / "out", steps=9))


def test_what_was_lost_while_parsing_counts_for_the_budget(tmp_path):
    class Alone:
        is_main_process = True
        device = "cpu"

        def reduce(self, number, reduction):
            return number

    records = BadRecords({"train": Allowance(budget=2, parsed=1)}, tmp_path)
    records.see([LOST, LOST])  # one record, whose turn came twice
    records.settle(1, Alone())
    assert records.count() == {"bad_records": 1}
    records.see([BadRecord("other", "b", "lost", "r", "m")])
    records.settle(2, Alone())
    records.see([BadRecord("train", "data.jsonl", "another", "r", "m")])
    with pytest.raises(DataError, match="2 bad records and 1 while parsing"):
        records.settle(3, Alone())


def test_a_video_that_was_lost_while_parsing_counts_with_all_its_turns():
    report = Quarantine()
    report.drop(DataError("a video is gone", questions=3))
    report.drop(DataError("a turn is bad"))
    source = Source(SourceConfig("sama", "data.jsonl", name="clips"), [text_sample()], report)
    assert allowances(MixtureDataset([source]))["clips"].parsed == 4


@pytest.mark.parametrize("packing", [False, True])
def test_the_step_of_a_batch_is_that_of_its_good_records(data, tmp_path, packing):
    config = tiny_run(data, tmp_path, batch_size=2, packing=packing)
    trainer = build_trainer(config)
    clip = str(data.parent / "clip.npy")
    good, losses, grads = [grounded_sample(clip), plain_sample(clip)], [], []
    for items in (good, [good[0], LOST, good[1]]):
        torch.manual_seed(0)  # the points where masks are compared
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, trainer.data_collator(items))
        loss.backward()
        losses.append(float(loss))
        grads.append({n: p.grad for n, p in trainer.model.named_parameters() if p.requires_grad})
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-3, atol=1e-6, msg=name)


def test_a_blank_step_has_a_zero_gradient_everywhere(data, tmp_path):
    trainer = build_trainer(tiny_run(data, tmp_path, mask_decoder=True))
    loss = trainer.compute_loss(trainer.model, trainer.data_collator([LOST, LOST]))
    loss.backward()
    assert float(loss) == 0 and not any(float(v) for v in trainer.sama.last_losses.values())
    for name, parameter in trainer.model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and not parameter.grad.any(), name


@pytest.mark.slow
@pytest.mark.parametrize("budget", [1000, 1])
def test_two_ranks_count_together(data, tmp_path, budget):
    ranks = REPOSITORY / "tests" / "train" / "bad_ranks.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, str(ranks), str(tmp_path / "out"), str(data), str(budget)],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    found = lines(tmp_path / "out")
    assert {line["record"] for line in found} == {"truncated", "lying"} and len(found) == 2
    stopped = [
        (tmp_path / "out" / f"stopped-{rank}.txt").read_text()
        for rank in range(2)
        if (tmp_path / "out" / f"stopped-{rank}.txt").exists()
    ]
    if budget == 1000:
        assert done.returncode == 0, done.stderr[-4000:]
        assert not stopped and len(history(tmp_path / "out")) == 6
    else:
        assert len(stopped) == 2 and stopped[0] == stopped[1]
        assert "2 bad records, more than the budget of 1" in stopped[0]
