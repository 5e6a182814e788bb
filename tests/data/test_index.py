"""A large JSON file read by its index gives what json.load gives."""

from __future__ import annotations

import json
import multiprocessing
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sama_plugin.data import index
from sama_plugin.data.formats import files, read_samples, sama_clip
from sama_plugin.data.report import Quarantine
from sama_plugin.errors import DataError, OutputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner,
                                                                max_size=4),
    max_leaves=10,
)  # fmt: skip
CONTENT = st.lists(VALUES, max_size=8) | st.dictionaries(st.text(max_size=6), VALUES, max_size=8)


def text_of(content, indent=None, ascii_only=True):
    return json.dumps(content, indent=indent, ensure_ascii=ascii_only)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=CONTENT, indent=st.sampled_from([None, 0, 3]), ascii_only=st.booleans(),
       chunk=st.sampled_from([1, 7, 64, 4096]))  # fmt: skip
def test_same_as_json(tmp_path, monkeypatch, content, indent, ascii_only, chunk):
    monkeypatch.setattr(index, "CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(text_of(content, indent, ascii_only), encoding="utf-8")
    for stale in tmp_path.glob("*.npy"):
        stale.unlink()
    view = index.open_index(path)
    assert len(view) == len(content)
    if isinstance(content, dict):
        assert dict(view.items()) == content and list(view) == list(content)
        assert all(view[key] == value for key, value in content.items())
        assert view.get("not there at all") is None
    else:
        assert list(view) == content and list(view[-2:]) == content[-2:]


@pytest.mark.parametrize(
    "text, reason",
    [
        ('{"a": [1, 2', "bad_json"),
        ('[{"a": NaN}]', "bad_json"),
        ("[1 2]", "bad_json"),
        ("[1,]", "bad_json"),
        ("[1]]", "bad_json"),
        ("{1: 2}", "bad_json"),
        ('{"a" 2}', "bad_json"),
        ("7", "bad_json"),
        ("", "bad_json"),
        ('{"a": 1, "b": 2, "a": 3}', "duplicate_id"),
        ("[" * 100_000, "bad_json"),
    ],
)
def test_damaged_files_are_named(tmp_path, text, reason):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        index.open_index(path)
    assert caught.value.reason == reason and "a.json" in str(caught.value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-2],
        lambda text: text + " 7",
        lambda text: text.replace('"b": 1', '"b": one', 1),
        lambda text: text.replace('"b": 1', '"b": NaN', 1),
        lambda text: "[" + text[1:].replace("1}", "1]", 1),
    ],
    ids=["cut off", "something follows", "word", "constant", "bracket"],
)
def test_a_large_file_is_not_read_to_its_end_to_find_its_damage(tmp_path, monkeypatch, spoil):
    path, read = tmp_path / "a.json", []
    path.write_text(spoil(json.dumps([{"a": "x" * 50, "b": 1}] * 2000)))
    monkeypatch.setattr(index, "CHUNK", 300)
    more = index._Scanner._more
    monkeypatch.setattr(index._Scanner, "_more", lambda *a: (read.append(1), more(*a))[1])
    with pytest.raises(DataError, match="a.json.*not valid JSON"):
        index.open_index(path)
    assert len(read) <= 2


def test_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"\xc3\xa9": 1}')
    assert dict(index.open_index(path).items()) == {"é": 1}


def test_a_changed_file_is_indexed_again(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[1, 2]")
    assert list(index.open_index(path)) == [1, 2]
    path.write_text("[1, 2, 3]")
    assert list(index.open_index(path)) == [1, 2, 3]


def test_a_stopped_build_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    content = {str(number): [number] * 3 for number in range(10_000)}
    path.write_text(json.dumps(content))
    monkeypatch.setattr(index, "CHUNK", 4096)

    class Stopped(Exception):
        pass

    def stop(done, total):
        raise Stopped

    with pytest.raises(Stopped):
        index.open_index(path, progress=stop)
    (partial,) = tmp_path.glob("*.partial")
    with open(partial, "ab") as file:
        file.write(b"half a row")
    seen = []
    monkeypatch.setattr(index._Scanner, "seek", _spied(index._Scanner.seek, seen))
    assert dict(index.open_index(path).items()) == content
    assert seen[0] > 10_000 and not list(tmp_path.glob("*.partial"))


def _spied(method, seen):
    def seek(self, byte):
        seen.append(byte)
        return method(self, byte)

    return seek


def test_views_travel_to_workers(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": 1, "b": [2]}))
    view = index.open_index(path)
    assert view["b"] == [2]
    assert pickle.loads(pickle.dumps(view))["b"] == [2]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(view.get, ["a", "b", "c"]) == [1, [2], None]


def test_one_process_builds(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({str(number): number for number in range(3000)}))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(_length, [path] * 4) == [3000] * 4
    assert not list(tmp_path.glob("*.partial"))


def _length(path):
    return len(index.open_index(path))


def test_where_the_folder_is_read_only_the_cache_is_used(tmp_path, monkeypatch):
    path = tmp_path / "data" / "a.json"
    path.parent.mkdir()
    path.write_text("[1]")
    monkeypatch.setenv("SAMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index.os, "access", lambda folder, mode: False)
    assert list(index.open_index(path)) == [1]
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "a.json").write_text("[]")
    monkeypatch.setattr(index.os, "access", lambda folder, mode: False)
    monkeypatch.setenv("SAMA_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match="SAMA_CACHE"):
        index.open_index(tmp_path / "a.json")


def test_large_files_are_read_through_the_index(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    records = [{"id": number} for number in range(5)]
    path.write_text(json.dumps(records))
    monkeypatch.setattr(index, "LARGE", 10)
    found = files.load_records(path)
    assert isinstance(found, index.IndexedRecords) and list(found) == records


@pytest.mark.parametrize("name", ["sama_239k", "mevis", "ref_youtube_vos", "videorefer_700k"])
def test_formats_read_the_same_through_the_index(sama_data, tmp_path, monkeypatch, name):
    folder = sama_data / "seeds" / name
    files_of = {"sama_239k": "sama239k_train_final.json", "mevis": "train/meta_expressions.json"}
    default = {"ref_youtube_vos": "train/meta_expressions.json"}.get(name, "videorefer-qa-75k.json")
    expected = json.loads((folder / "expected.json").read_text())
    options = {"folders": expected["frame_folders"]} if "frame_folders" in expected else {}
    root = sama_data if options else sama_data / expected.get("media_root", "frames")

    def read():
        sama_clip._load_dictionary.cache_clear()
        path = folder / files_of.get(name, default)
        return list(read_samples(name, path, root, Quarantine(), **options))

    first = read()
    monkeypatch.setenv("SAMA_CACHE", str(tmp_path))
    monkeypatch.setattr(index.os, "access", lambda folder, mode: False)
    monkeypatch.setattr(index, "LARGE", 0)
    assert read() == first and first
    assert list((tmp_path / "index").glob("*.npy"))
    sama_clip._load_dictionary.cache_clear()
