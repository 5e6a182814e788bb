"""Bad records while training: set aside by name, blank in their place, nothing else changed."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from sama_plugin.data.formats import sama
from sama_plugin.data.mixture import MixtureDataset
from sama_plugin.data.packing import packed
from sama_plugin.data.quarantine import BLANK_LENGTH, TolerantCollator
from sama_plugin.data.report import BadRecord
from sama_plugin.data.sources import Item, SourceConfig, open_source
from sama_plugin.dialog.spans import IGNORE
from sama_plugin.errors import ConfigError, DataError
from tests.data.damaged import lying, truncated
from tests.data.factories import grounded_sample, plain_sample, text_sample, write_clip
from tests.data.test_collate import POLICY, collator

SEEN = 40
"""Items that are read: more than an epoch."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.npy")


@pytest.fixture
def data(tmp_path):
    """Twelve lines: every way of being bad, among good ones."""
    clip = write_clip(tmp_path / "clip.npy")
    short = write_clip(tmp_path / "short.npy", frames=4)
    samples = [
        *(plain_sample(clip, f"good {number}") for number in range(5)),
        grounded_sample(clip, "grounded"),
        text_sample(),
        plain_sample(truncated(tmp_path / "truncated.mp4"), "truncated"),
        plain_sample(lying(tmp_path / "lying.mp4"), "lying"),
        plain_sample(write_clip(tmp_path / "gone.npy"), "gone"),
        grounded_sample(short, "too short"),
    ]
    path = tmp_path / "data.jsonl"
    sama.write(samples, path, tmp_path)
    with open(path, "a") as lines:
        lines.write('{"id": "half a li\n')
    return path


REASONS = {
    "truncated": "unreadable_media",
    "lying": "unreadable_media",
    "gone": "missing_media",
    "too short": "frame_out_of_range",
    "line 12": "bad_json_line",
}


def batches(path, workers, first=0, pack=False):
    """Batches of items [first, SEEN), two an item, by so many processes."""
    dataset = MixtureDataset([open_source(SourceConfig("sama", str(path), name="mine"))])
    collate = collator(layout=packed) if pack else collator()
    loader = DataLoader(
        dataset,
        batch_size=2,
        sampler=range(first, SEEN),
        num_workers=workers,
        collate_fn=TolerantCollator(collate),
        prefetch_factor=3 if workers else None,
    )
    return list(loader)


def ids(batch):
    return batch["sama"].sample_ids


def test_each_is_named_and_the_file_gone_only_since_it_is_gone(data, tmp_path):
    before = {bad.record for batch in batches(data, 0) for bad in batch["sama"].bad}
    (tmp_path / "gone.npy").unlink()
    found = [bad for batch in batches(data, 0) for bad in batch["sama"].bad]
    assert {bad.record: bad.reason for bad in found} == REASONS
    assert before == set(REASONS) - {"gone"}
    for bad in found:
        assert bad.source == "mine" and bad.file == str(data) and bad.record in bad.message
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(("workers", "first"), [(0, 12), (2, 0), (2, 12)])
def test_workers_and_resuming_change_nothing(data, tmp_path, workers, first, pack):
    (tmp_path / "gone.npy").unlink()
    expected = batches(data, 0, pack=pack)[first // 2 :]
    found = batches(data, workers, first, pack)
    assert len(found) == len(expected) == (SEEN - first) // 2
    for mine, theirs in zip(found, expected):
        assert ids(mine) == ids(theirs) and mine["sama"].bad == theirs["sama"].bad
        assert all(torch.equal(mine[key], theirs[key]) for key in ("input_ids", "labels"))
        assert mine.keys() == theirs.keys()
        assert torch.equal(mine["sama"].frame_index, theirs["sama"].frame_index)


def test_an_epoch_still_holds_every_sample_once(data, tmp_path):
    (tmp_path / "gone.npy").unlink()
    epoch = [name for batch in batches(data, 2)[:6] for name in ids(batch)]
    assert len(epoch) == 12 and sorted(set(epoch)) == sorted(epoch)
    assert set(REASONS) <= set(epoch)


def test_the_others_of_a_batch_are_as_without_it(clip):
    bad = BadRecord("mine", "data.jsonl", "lost", "unreadable_media", "gone")
    good = [grounded_sample(clip), plain_sample(clip)]
    tolerant = TolerantCollator(collator())
    alone, mixed = tolerant(good), tolerant([good[0], bad, good[1]])
    length = alone["input_ids"].shape[1]
    assert mixed["input_ids"].shape == (3, length)
    for key in ("input_ids", "labels", "attention_mask"):
        assert torch.equal(mixed[key][[0, 2]], alone[key])
    assert (mixed["labels"][1] == IGNORE).all()
    assert int(mixed["attention_mask"][1].sum()) == BLANK_LENGTH
    assert torch.equal(mixed["pixel_values"], alone["pixel_values"])
    assert torch.equal(mixed["sama"].frame_owner, 2 * alone["sama"].frame_owner)
    assert torch.equal(mixed["sama"].label_mask, alone["sama"].label_mask)
    assert ids(mixed) == ["grounded", "lost", "plain"] and mixed["sama"].bad == (bad,)


def test_a_batch_may_be_blank_altogether():
    bad = BadRecord("mine", "data.jsonl", "lost", "unreadable_media", "gone")
    batch = TolerantCollator(collator())([bad, bad])
    assert "pixel_values" not in batch and batch["input_ids"].shape == (2, BLANK_LENGTH)
    assert batch["sama"].bad == (bad, bad) and batch["sama"].regions == 0


def test_too_long_is_a_matter_of_the_record_and_settings_are_not(clip, monkeypatch):
    item = Item(plain_sample(clip), POLICY, SourceConfig("sama", "mine.jsonl"))
    tolerant = TolerantCollator(collator())
    monkeypatch.setattr(tolerant.collator.encoder, "max_length", 5)
    (bad,) = tolerant([item])["sama"].bad
    assert (bad.source, bad.record, bad.reason) == ("mine", "plain", "too_long")

    def wrong(*_):
        raise ConfigError("no such setting")

    monkeypatch.setattr(tolerant.collator.encoder, "encode", wrong)
    with pytest.raises(ConfigError):
        tolerant([item])


def test_the_collator_itself_raises(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        collator()([plain_sample(str(tmp_path / "nothing.mp4"))])
