"""A prepared source gives the samples, the verdicts and the budget that parsing gives."""

from __future__ import annotations

import json
import pickle

import pytest

from sama_plugin.data import index, prepared
from sama_plugin.data.sources import SourceConfig, open_source
from sama_plugin.errors import DataError


@pytest.fixture
def config(sama_data, tmp_path, monkeypatch):
    """The public SAMA-239K records in a folder of their own, and a cache of their own."""
    folder = tmp_path / "data"
    folder.mkdir()
    for file in (sama_data / "seeds" / "sama_239k").glob("*.json"):
        (folder / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("SAMA_CACHE", str(tmp_path / "cache"))
    path = str(folder / "sama239k_train_final.json")
    return SourceConfig("sama_239k", path, root=str(sama_data / "frames"))


def opened(config, monkeypatch, large):
    monkeypatch.setattr(index, "LARGE", large)
    return open_source(config)


def test_same_samples_and_verdicts(config, monkeypatch):
    plain = opened(config, monkeypatch, 10**9)
    lazy = opened(config, monkeypatch, 0)
    assert list(lazy) == [s for s in plain] and lazy.grounded.tolist() == plain.grounded.tolist()
    assert [e.reason for e in lazy.report.dropped] == [e.reason for e in plain.report.dropped]
    assert [e.record for e in lazy.report.dropped] == [e.record for e in plain.report.dropped]


def test_made_once_until_something_changes(config, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(prepared, "_make", _counted(prepared._make, made))
    opened(config, monkeypatch, 0)
    opened(config, monkeypatch, 0)
    assert len(made) == 1
    masks = tmp_path / "data" / "mevis_train_mask_dict.json"
    masks.write_text(json.dumps({}))
    fewer = opened(config, monkeypatch, 0)
    assert len(made) == 2 and any(e.reason == "missing_mask_id" for e in fewer.report.dropped)


def _counted(method, made):
    def make(*args):
        made.append(args)
        return method(*args)

    return make


def test_the_budget_holds_when_it_is_opened_again(config, monkeypatch):
    opened(config, monkeypatch, 0)
    config.budget = 0
    with pytest.raises(DataError, match="more than 0 bad records"):
        opened(config, monkeypatch, 0)


def test_an_interrupted_build_leaves_nothing(config, monkeypatch, tmp_path):
    def broken(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepared.sama, "line_of", broken)
    with pytest.raises(KeyboardInterrupt):
        opened(config, monkeypatch, 0)
    assert not [path for path in (tmp_path / "cache" / "prepared").iterdir() if path.is_dir()]


def test_workers_carry_places_not_samples(config, monkeypatch):
    lazy = opened(config, monkeypatch, 0)
    assert b"lines.npy" in pickle.dumps(lazy)
    assert list(pickle.loads(pickle.dumps(lazy))) == list(lazy)
