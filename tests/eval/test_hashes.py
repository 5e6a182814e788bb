"""What a run was made of: other references are named, when it is resumed and when compared."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sama_plugin.cli import eval_suite, main
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.hashes import files_hash, hashes_by_place, path_hash
from sama_plugin.media.masks import encode, write_png

FILES = {"a": "1", "b/c": "23"}
STEMS = ["00000", "00001"]


def tree(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    "other",
    [{"a": "1", "b/c": "24"}, {"a": "1", "b/d": "23"}, {"a": "12", "b/c": "3"}, {"a": "1"}],
    ids=["content", "name", "border", "less"],
)
def test_the_hash_of_a_folder(other, tmp_path):
    one, same, changed = (
        path_hash(tree(tmp_path / name, files))
        for name, files in (("one", FILES), ("same", FILES), ("changed", other))
    )
    assert one == same != changed


def test_folders_are_one_digest_and_files_have_names(tmp_path):
    home = tree(tmp_path / "home", {**FILES, "b/d": "4"})
    outside = tree(tmp_path, {"x.json": "5", "y/z.json": "6"})
    files = [home / "a", home / "b" / "c", outside / "x.json", outside / "y" / "z.json"]
    found = hashes_by_place(files, home)
    assert set(found) == {"a", "b/", "../x.json", "../y/"}
    assert found["a"] == path_hash(home / "a") == files_hash([home / "a"])
    again = hashes_by_place([*files, home / "b" / "d"], home)
    assert {name for name in found if found[name] != again[name]} == {"b/"}


class Silent:
    """Finds nothing."""

    def __init__(self, args, masks, rank):
        """Like the real one."""

    def __call__(self, cases):
        yield from (Prediction(case.key) for case in cases)


class Benchmark:
    """Files of a clip of two frames with one object, and the command that scores it."""

    FILE = "meta_expressions.json"
    entry = {"exp": "it", "exp_text": "it", "obj_id": 1, "anno_id": [9], "type_id": 1}

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.adapter = tree(folder / "adapter", {"config.json": "{}"})
        for stem in STEMS:
            file = folder / "frames" / "clip" / f"{stem}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 12)).save(file)
        self.draw(4)

    def draw(self, size):
        """The references."""
        mask = np.zeros((12, 16), np.uint8)
        mask[:size, :size] = 1
        for stem in STEMS:
            write_png(self.folder / "Annotations" / "own_clip_1" / f"{stem}.png", mask)
            write_png(self.folder / "Annotations" / "clip" / f"{stem}.png", mask)
        self.around = {"clip": {"masks_rle": [encode(mask > 0)] * 2}}
        video = {"source": "own", "frames": STEMS, "expressions": {"0": self.entry}}
        self.write(self.FILE, {"videos": {"clip": video}})
        if self.name == "revos":
            self.write("mask_dict.json", {"9": [encode(mask > 0)] * 2})

    def write(self, name, content):
        (self.folder / name).write_text(json.dumps(content))

    def change(self, how):
        """The expressions file after `how` was done to its videos."""
        content = json.loads((self.folder / self.FILE).read_text())
        how(content["videos"])
        self.write(self.FILE, content)

    def run(self, out):
        data, root = self.folder / self.FILE, self.folder / "frames"
        places = ["--data", str(data), "--root", str(root), "--out", str(self.folder / out)]
        return main(["eval", self.name, *places, "--adapter", str(self.adapter)])

    def summary(self, out):
        return json.loads((self.folder / out / "summary.json").read_text())

    def compare(self, *outs):
        return main(["eval", "compare", *(str(self.folder / out) for out in outs)])


@pytest.fixture
def benchmark_of(tmp_path, monkeypatch):
    monkeypatch.setattr(eval_suite, "_Answerer", Silent)
    return lambda name: Benchmark(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("reasonvos", "Annotations/"),
        ("ref-youtube-vos", "Annotations/"),
        ("revos", "mask_dict.json"),
    ],
)
def test_other_references_are_another_run(name, place, benchmark_of, capsys):
    one = benchmark_of(name)
    assert one.run("a") == one.run("a") == one.run("b") == one.compare("a", "b") == 0
    assert one.summary("a")["settings"]["beside_sha256"].keys() == {place}
    assert f"beside_sha256 of {place}" in (one.folder / "a" / "index.html").read_text()
    one.draw(5)
    assert one.run("a") == 2
    assert f"another run (beside_sha256 of {place}: " in capsys.readouterr().err
    assert one.run("c") == 0 and one.compare("a", "c") == 2
    assert f"differ in annotation beside it (beside_sha256 of {place}: " in capsys.readouterr().err


def test_what_only_scoring_reads_can_be_added_later_and_is_named(benchmark_of, capsys):
    one = benchmark_of("revos")
    name = "mask_dict_foreground.json"
    assert one.run("a") == 0 and "A, R" in one.summary("a")["not_computed"]
    assert one.summary("a")["scored_with_sha256"] == {}
    one.write(name, one.around)
    assert one.run("a") == one.run("b") == one.compare("a", "b") == 0
    found = one.summary("a")
    assert found["scored_with_sha256"] == {name: path_hash(one.folder / name)}
    assert "A, R" not in found["not_computed"]
    one.write(name, {"clip": {"masks_rle": [None, None]}})
    assert one.run("b") == 0 and one.compare("a", "b") == 2
    said = capsys.readouterr().err
    assert f"differ in annotation read when scoring (scored_with_sha256 of {name}: " in said
