"""`--plugin.data` beside the host's meta file, fine-tuned and pre-trained, packed and not."""

from __future__ import annotations

import itertools
import json
import os
from types import SimpleNamespace

import pytest

from sama_plugin.bridges.internvl_chat.own_data import OwnData
from sama_plugin.bridges.internvl_chat.prepare import Preparation, _joined, _packed, check_shares
from sama_plugin.data.collate import Prepared
from sama_plugin.data.formats.sama import write
from sama_plugin.errors import PluginError
from sama_plugin.patching.ledger import Ledger
from tests.bridges.test_internvl_chat import (  # noqa: F401
    SCRIPT,
    files,
    leave_nothing,
    run,
)
from tests.data.factories import grounded_sample
from tests.model.conftest import tiny_config

SCRIPTS = {name: SCRIPT.with_name(f"internvl_chat_{name}.py") for name in ("finetune", "pretrain")}


@pytest.fixture
def own(files, tmp_path):  # noqa: F811
    """Arguments: three samples of ours, and a meta file with plain records alone."""
    samples = [grounded_sample(str(files / "media" / "clip.npy"))] * 3
    write(samples, tmp_path / "own.jsonl", files / "media")
    meta = json.loads((files / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps({"plain": meta["plain"]}))
    return {
        "more": ("--plugin.data", str(tmp_path / "own.jsonl"), f"--plugin.root={files / 'media'}"),
        "meta_path": tmp_path / "meta.json",
    }


@pytest.mark.parametrize(
    ("script", "packed"),
    [
        ("finetune", False),
        ("pretrain", True),
        pytest.param("finetune", True, marks=pytest.mark.slow),
        pytest.param("pretrain", False, marks=pytest.mark.slow),
    ],
)
def test_our_samples_train_beside_the_host_s(files, tmp_path, own, capsys, script, packed):  # noqa: F811
    more, meta = own["more"], own["meta_path"]
    changes = {"per_device_train_batch_size": 1, "strict_mode": False} if packed else {}
    trainer = run(
        files,
        tmp_path / "out",
        *more,
        script=SCRIPTS[script],
        meta_path=meta,
        use_packed_ds=packed,
        per_device_train_batch_size=changes.pop("per_device_train_batch_size", 7),
        **changes,
    )
    assert "3 samples of" in capsys.readouterr().err
    assert trainer.canary.regions_seen and trainer.canary.masks_seen
    dataset = trainer.train_dataset
    if packed:
        items = list(itertools.chain(*(row.items for row in dataset)))
    else:
        items = [dataset[number] for number in range(len(dataset))]
    assert [isinstance(item, Prepared) for item in items].count(True) == 3 and len(items) == 7
    assert (tmp_path / "out" / "sama_adapter").is_dir()


def test_like_lengths_go_together_and_no_record_is_read(files, tmp_path, own, monkeypatch):  # noqa: F811
    """One batch of everything falls in length, where the tree leaves the order to transformers."""
    more, meta = own["more"], own["meta_path"]
    changes = {"per_device_train_batch_size": 7, "group_by_length": True, "max_steps": 1}
    trainer = run(files, tmp_path / "out", *more, meta_path=meta, **changes)
    assert any("drawn by the lengths of 7 records" in line for line in trainer.ledger.lines())
    dataset = trainer.train_dataset
    lengths = list(itertools.chain(*(part.length for part in dataset.datasets)))
    monkeypatch.setattr(type(dataset), "__getitem__", None)
    order = list(trainer._get_train_sampler())
    assert sorted(order) == list(range(7))
    assert [lengths[number] for number in order] == sorted(lengths, reverse=True)


class Records(list):
    """A dataset of so many records."""


@pytest.mark.parametrize(("power", "weight"), [(1.0, 0.5), (0.5, 0.4)])
def test_ours_is_drawn_as_often_as_the_host_would(power, weight):
    """Beside 4 and 4 records 4 weigh a half; beside roots of 3 and 2, a root of 2 weighs 2/5."""
    parts = [Records([None] * (4 if power == 1 else 9)), Records([None] * 4)]
    packer = SimpleNamespace(
        datasets=parts,
        dataset_weight=[0.5, 0.5],
        max_packed_tokens=8,
        num_images_expected=2,
        max_buffer_size=1,
        strict_mode=False,
        replacement=False,
        data_rank=1,
        data_world_size=2,
    )
    rows = _packed(packer, Records([None] * 4), power)
    assert rows.weights == pytest.approx([0.5, 0.5, weight]) and len(rows.datasets) == 3
    assert (rows.rank, rows.world) == (1, 2)


def test_a_resampled_mixture_is_refused():
    with pytest.raises(PluginError, match="--use_data_resampling True.*weights are made from"):
        _joined(SimpleNamespace(datasets=[]), OwnData.__new__(OwnData))


def test_shares_of_an_older_annotation_are_refused(tmp_path):
    """What the script of pre-training keeps beside an annotation file and reads instead of it."""
    annotation, share = tmp_path / "a.jsonl", tmp_path / "a_temp" / "a_0_of_1.jsonl"
    share.parent.mkdir()
    for path in (annotation, share):
        path.write_text("{}\n")
    meta = tmp_path / "meta.json"
    meta.write_text(json.dumps({"mine": {"root": "", "annotation": str(annotation)}}))
    os.utime(annotation, (1, 1))
    check_shares(str(meta))
    os.utime(share, (0, 0))
    with pytest.raises(PluginError, match="dataset mine: .*a.jsonl was changed after .*Delete"):
        check_shares(str(meta))
    parts = SimpleNamespace(datasets=[SimpleNamespace(total_ranks=1)])
    preparation = Preparation(tiny_config(), None, None, Ledger(), meta=str(meta))
    preparation.collate.mixed = SimpleNamespace(ours=None)
    with pytest.raises(PluginError, match="dataset mine"):
        preparation.after(parts)
