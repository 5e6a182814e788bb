"""`sama data`: exit codes, the report, and files that convert and back."""

from __future__ import annotations

import io
import json
import sys

import pytest

from sama_plugin import cli
from sama_plugin.data.formats import sama, videorefer_700k
from sama_plugin.data.sources import SourceConfig, open_source
from tests.data.factories import grounded_sample, plain_sample, region, write_clip


@pytest.fixture
def folder(tmp_path):
    clip = write_clip(tmp_path / "clip.npy")
    good = [grounded_sample(clip), plain_sample(clip)]
    sama.write(good, tmp_path / "good.jsonl", tmp_path)
    text = (tmp_path / "good.jsonl").read_text()
    (tmp_path / "mixed.jsonl").write_text(text + "{\n")
    (tmp_path / "bad.jsonl").write_text("{\n")
    return tmp_path


@pytest.mark.parametrize(("file", "code"), [("good", 0), ("mixed", 1), ("bad", 2)])
def test_check_exits_with_what_it_found(folder, file, code, capsys):
    path = str(folder / f"{file}.jsonl")
    assert cli.main(["data", "check", path, "--format", "sama"]) == code
    assert f"{file}: " in capsys.readouterr().out
    assert cli.main(["data", "check", path, "--format", "sama", "--json"]) == code
    (report,) = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == code and len(report["dropped"]) == bool(code)


def test_check_reads_the_sources_of_a_training_run(folder, capsys):
    config = folder / "train.yaml"
    sources = [
        {"format": "sama", "path": str(folder / f"{name}.jsonl")} for name in ("good", "bad")
    ]
    config.write_text(json.dumps({"data": sources}))
    assert cli.main(["data", "check", str(config)]) == 2
    assert "good: 2 samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "good.jsonl"],
        ["check", "good.jsonl", "--format", "samma"],
        ["check", "good.jsonl", "--format", "sama", "--option", "x"],
        ["convert", "mixed.jsonl", "out.jsonl", "--format", "sama"],
        ["convert", "two.yaml", "out.jsonl"],
        ["peek", "good.jsonl", "--format", "sama", "--samples", "0"],
        ["check", "none.yaml"],
        ["check", "good.jsonl", "--format", "sama", "--option", "turns=3"],
        ["convert", "good.jsonl", "good.jsonl", "--format", "sama"],
        ["convert", "good.jsonl", "folder.jsonl", "--format", "sama"],
    ],
)
def test_what_cannot_be_done_is_one_message(folder, arguments, capsys):
    source = {"format": "sama", "path": str(folder / "good.jsonl")}
    for name, sources in (("none", []), ("two", [source, source])):
        (folder / f"{name}.yaml").write_text(json.dumps({"data": sources}))
    (folder / "folder.jsonl").mkdir()
    good, named = (folder / "good.jsonl").read_text(), (".jsonl", ".yaml")
    paths = [str(folder / word) if word.endswith(named) else word for word in arguments]
    assert cli.main(["data", *paths]) == 2
    assert capsys.readouterr().err.startswith("sama: ")
    assert not (folder / "out.jsonl").exists()
    assert (folder / "good.jsonl").read_text() == good


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal(folder, monkeypatch, terminal):
    shown = io.StringIO()
    shown.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", shown)
    assert cli.main(["data", "check", str(folder / "mixed.jsonl"), "--format", "sama"]) == 1
    assert ("mixed:  67%|" in shown.getvalue() and "2/3" in shown.getvalue()) == terminal
    assert bool(shown.getvalue()) == terminal


def test_a_name_that_the_terminal_cannot_show(folder, monkeypatch):
    path = folder / "named.jsonl"
    path.write_text((folder / "mixed.jsonl").read_text().replace('"plain"', '"ナ\\ud800"', 1))
    shown = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    assert cli.main(["data", "check", str(path), "--format", "sama"]) == 1
    shown.flush()
    assert b"lost: 1" in shown.buffer.getvalue()


def test_bad_lines_are_counted_by_stats_and_shown_by_peek(folder, monkeypatch, capsys):
    from sama_plugin.infer import load
    from sama_plugin.miniworld.host import tiny_host

    monkeypatch.setattr(load, "load_host", lambda name: tiny_host(seed=0))
    source = [str(folder / "mixed.jsonl"), "--format", "sama"]
    assert cli.main(["data", "stats", *source, "--json"]) == 0
    (stats,) = json.loads(capsys.readouterr().out)
    assert (stats["kinds"]["samples"], stats["kinds"]["set aside"]) == (2, 1)
    assert cli.main(["data", "peek", *source, "--out", str(folder / "page.html")]) == 0
    page = (folder / "page.html").read_text()
    assert page.count("<section") == 3 and page.count("set aside: ") == 1


def test_convert_and_back(folder, capsys):
    clip = str(folder / "clip.npy")
    sample = grounded_sample(clip)
    turn = sample.turns[0].__class__("what is <region>?", "a ball", (region(2, 5),))
    referring = sample.__class__("r", sample.media, (turn,))
    videorefer_700k.write([referring], folder / "a.json", folder)
    there = ["data", "convert", str(folder / "a.json"), str(folder / "b.jsonl")]
    assert cli.main([*there, "--format", "videorefer_700k"]) == 0
    back = ["data", "convert", str(folder / "b.jsonl"), str(folder / "c.json")]
    assert cli.main([*back, "--format", "sama", "--to", "videorefer_700k"]) == 0
    assert (folder / "c.json").read_text() == (folder / "a.json").read_text()


def test_convert_can_leave_bad_records_out(folder, capsys):
    arguments = ["data", "convert", str(folder / "mixed.jsonl"), str(folder / "out.jsonl")]
    assert cli.main([*arguments, "--format", "sama", "--keep-good"]) == 1
    assert len((folder / "out.jsonl").read_text().splitlines()) == 2
    assert "bad_json_line" in capsys.readouterr().err


def test_peek_writes_the_page(folder, monkeypatch, capsys):
    from sama_plugin.infer import load
    from sama_plugin.miniworld.host import tiny_host

    monkeypatch.setattr(load, "load_host", lambda name: tiny_host(seed=0))
    out = folder / "page.html"
    path = str(folder / "good.jsonl")
    assert cli.main(["data", "peek", path, "--format", "sama", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert "<h2>grounded</h2>" in out.read_text() and "<h2>plain</h2>" in out.read_text()


@pytest.mark.parametrize(("kind", "slots"), [("sama", 2), ("videorefer", 1)])
def test_peek_shows_the_slots_of_the_region_encoder(folder, kind, slots, monkeypatch):
    from sama_plugin.infer import load
    from sama_plugin.miniworld.host import tiny_host

    monkeypatch.setattr(load, "load_host", lambda name: tiny_host(seed=0))
    seen = grounded_sample(str(folder / "clip.npy"), region=region(3))  # on one frame
    sama.write([seen], folder / "seen.jsonl", folder)
    source = {"format": "sama", "path": str(folder / "seen.jsonl"), "root": str(folder)}
    config = folder / "train.yaml"
    config.write_text(json.dumps({"data": [source], "sama": {"region": {"kind": kind}}}))
    out = folder / "page.html"
    assert cli.main(["data", "peek", str(config), "--out", str(out)]) == 0
    assert f", {slots} region," in out.read_text()


def test_stats_of_every_source(folder, capsys):
    path = str(folder / "good.jsonl")
    page = folder / "stats.html"
    assert cli.main(["data", "stats", path, "--format", "sama", "--out", str(page)]) == 0
    assert "samples 2" in capsys.readouterr().out and page.read_text().count("<svg") > 5
    assert cli.main(["data", "stats", path, "--format", "sama", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["kinds"]["samples"] == 2 and found["measures"]["segs"]["max"] == 3


def test_stats_count_the_slots_of_the_runs_region_encoder(folder, monkeypatch, capsys):
    from sama_plugin.infer import load
    from sama_plugin.miniworld.host import tiny_host

    monkeypatch.setattr(load, "load_host", lambda name: tiny_host(seed=0))
    record = grounded_sample(str(folder / "clip.npy"), region=region(1, 2, 3, 4))
    sama.write([record], folder / "seen.jsonl", folder)
    source = {"format": "sama", "path": str(folder / "seen.jsonl"), "root": str(folder)}
    tokens = {}
    for kind in ("sama", "videorefer"):
        config = folder / f"{kind}.yaml"
        config.write_text(json.dumps({"data": [source], "sama": {"region": {"kind": kind}}}))
        assert cli.main(["data", "stats", str(config), "--model", "mini", "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        tokens[kind] = found["measures"]["tokens"]["max"]
    assert tokens["videorefer"] - tokens["sama"] == 4 - 2


def test_index_prepares_once_and_training_opens_it(folder, capsys, monkeypatch):
    monkeypatch.setenv("SAMA_CACHE", str(folder / "cache"))
    source = [region_record(folder)]
    path = folder / "qa.json"
    path.write_text(json.dumps(source))
    arguments = ["data", "index", str(path), "--format", "videorefer_700k"]
    for _ in range(2):
        assert cli.main(arguments) == 0
        assert "qa: 1 samples in" in capsys.readouterr().out
    opened = open_source(SourceConfig("videorefer_700k", str(path)))
    assert isinstance(opened._samples, sama.LazyLines) and len(opened) == 1


def region_record(folder):
    """One VideoRefer record about the folder's clip."""
    (prompt,) = region(3).prompts
    return {
        "id": 1,
        "video": "clip.npy",
        "conversations": [
            {"from": "human", "value": "<video>\nWhat is <region>?"},
            {"from": "gpt", "value": "A ball."},
        ],
        "annotation": [{"3": {"segmentation": prompt.mask}}],
    }
