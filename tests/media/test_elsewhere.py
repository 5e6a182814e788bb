"""Addresses and archive members give the frames of the file itself, copied once."""

from __future__ import annotations

import sys
import tarfile

import numpy as np
import pytest

from sama_plugin.data.library import Library
from sama_plugin.errors import DataError, MediaError
from sama_plugin.media import elsewhere
from sama_plugin.media.elsewhere import is_address, local_path, split_member
from sama_plugin.media.video import open_video

CLIP = np.random.default_rng(0).integers(0, 256, (4, 10, 14, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def stored(tmp_path):
    """(file, the same in an archive behind another one, the same at an address)."""
    fsspec = pytest.importorskip("fsspec")
    for name, clip in (("other.npy", CLIP[::-1]), ("a.npy", CLIP)):
        np.save(tmp_path / name, clip)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "other.npy", "clips/other.npy")
        archive.add(tmp_path / "a.npy", "clips/a.npy")
    with fsspec.open("memory://bucket/a.npy", "wb") as file:
        file.write((tmp_path / "a.npy").read_bytes())
    return tmp_path / "a.npy", f"{tmp_path}/x.tar!clips/a.npy", "memory://bucket/a.npy"


def test_all_are_the_same_clip(stored, cache):
    for source in stored:
        with open_video(source) as reader:
            assert reader.name == "a"
            assert np.array_equal(reader.frames([3, 0]), CLIP[[3, 0]])
    assert len(list(cache.rglob("*.npy"))) == 2  # nothing else of the archive
    assert not list(cache.rglob("*.partial*"))


def test_a_copy_is_made_once_and_again_when_the_content_changes(stored, monkeypatch):
    import fsspec

    _, member, address = stored
    before = [local_path(source) for source in (member, address)]
    with monkeypatch.context() as patch:
        patch.setattr(elsewhere, "atomic_path", None)
        assert [local_path(source) for source in (member, address)] == before
    with fsspec.open(address, "wb") as file:
        np.save(file, CLIP[:1])
    assert len(open_video(address)) == 1


def test_a_library_hands_them_on(stored, tmp_path):
    library = Library(tmp_path)
    assert library.find("memory://bucket/a.npy") == "memory://bucket/a.npy"
    assert library.find("x.tar!clips/a.npy") == stored[1]
    for source in stored[1:]:
        facts = library.facts(library.find(source))
        assert (facts.frames, facts.height, facts.width) == (4, 10, 14)
    for name, reason in (
        ("../x.tar!a.npy", "path_outside_root"),
        ("no.tar!a.npy", "missing_media"),
    ):
        with pytest.raises(DataError) as error:
            library.find(name)
        assert error.value.reason == reason
    with pytest.raises(DataError, match="no file 'b.npy'"):
        library.facts(library.find("x.tar!b.npy"))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("memory://bucket/none.mp4", "there is no file memory://bucket/none.mp4"),
        ("nonsense://bucket/a.mp4", "cannot be fetched.*nonsense"),
        ("/nowhere/x.tar!a.mp4", "there is no archive /nowhere/x.tar"),
        ("{x.tar}!clips/b.npy", "has no file 'clips/b.npy' among its 2 files"),
        ("{x.tar}!../a.npy", "has no file '../a.npy'"),
        ("{text.tar}!a.npy", "uncompressed tar"),
        ("{packed.tar}!a.npy", "uncompressed tar"),
    ],
)
def test_what_is_not_there(stored, tmp_path, source, words):
    (tmp_path / "text.tar").write_bytes(b"no archive" * 200)
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as archive:
        archive.add(tmp_path / "a.npy", "a.npy")
    with pytest.raises(MediaError, match=words):
        open_video(source.replace("{", f"{tmp_path}/").replace("}", ""))


def test_links_and_truncated_members(stored, tmp_path):
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        link = tarfile.TarInfo("a.npy")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(MediaError, match="has no file 'a.npy'"):
        local_path(f"{tmp_path}/link.tar!a.npy")
    whole = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:4000])
    with pytest.raises(MediaError, match="cut.tar"):
        local_path(f"{tmp_path}/cut.tar!clips/a.npy")


@pytest.mark.parametrize(
    ("source", "address", "parts"),
    [
        ("s3://b/a.mp4", True, ("s3://b/a.mp4", None)),
        ("C:/a.mp4", False, ("C:/a.mp4", None)),
        ("a/x.tar!b/c.mp4", False, ("a/x.tar", "b/c.mp4")),
        ("x.tar!", False, ("x.tar!", None)),
        ("what!.mp4", False, ("what!.mp4", None)),
    ],
)
def test_spelling(source, address, parts):
    assert is_address(source) == address and split_member(source) == parts


def test_without_fsspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MediaError, match="pip install fsspec"):
        open_video("memory://bucket/a.npy")
