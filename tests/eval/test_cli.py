"""`sama eval` from the command line: what it refuses, and a run with a judge behind HTTP."""

from __future__ import annotations

import json

import pytest

from sama_plugin.cli import eval as eval_verb
from sama_plugin.cli import eval_suite, main
from sama_plugin.eval.asking import Prediction
from sama_plugin.miniworld.write import write_world
from tests.eval.test_judge import Misbehaving, completion


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sama-bench-x"], "did you mean 'sama-bench-"),
        (["mini", "out/a"], "only `sama eval compare` takes runs"),
        (["sama-bench-g"], "needs --data"),
        (["sama-bench-g", "--data", "no/such.json"], "no such file"),
        (["compare", "out/a"], "two result folders, 1 given"),
        (["compare", "out/a", "out/b"], "holds no results"),
        (["mini", "--clips", "0"], "give 1 or more"),
        (["mini-sama-bench-g", "--clips", "0"], "give 1 or more"),
    ],
)
def test_what_is_refused(arguments, message, capsys):
    assert main(["eval", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_unwritable_report_is_found_before_anything_is_scored(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(eval_verb.BENCHMARKS, "get", lambda name: pytest.fail)
    assert main(["eval", "mini", "--out", str(tmp_path)]) == 2
    assert "it is a folder; name a file in it" in capsys.readouterr().err


class Parrot:
    """Answers with the reference, so that no model is needed."""

    asked = 0

    def __init__(self, args, masks, rank):
        """Like the real one."""

    def __call__(self, cases):
        for case in cases:
            Parrot.asked += 1
            yield Prediction(case.key, plain=case.sample.turns[-1].assistant)


@pytest.fixture
def world(tmp_path, monkeypatch):
    write_world(tmp_path, "heldout", 1)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "config.json").write_text("{}")
    monkeypatch.setattr(eval_suite, "_Answerer", Parrot)
    monkeypatch.setattr(Parrot, "asked", 0)
    monkeypatch.setenv("PATH", "")
    return tmp_path


def command(world, server, *more):
    return [
        *("eval", "videorefer-bench-d", "--data", str(world / "videorefer_bench_d.json")),
        *("--adapter", str(world / "adapter"), "--out", str(world / "out"), "--json"),
        *("--judge", f"http://127.0.0.1:{server.server_address[1]}/v1", "--judge-model", "j"),
        *more,
    ]


def test_a_judged_run_and_its_repetition(world, capsys):
    server = Misbehaving()
    names = ("Subject Correspondence", "Appearance Description", "Temporal Description")
    lines = [f"{n}. {name}: {n}" for n, name in enumerate(names, start=1)]
    server.script = [completion("\n".join(lines) + "\n4. **Hallucination Detection**: 4")]
    try:
        assert main(command(world, server)) == 0
        first = json.loads(capsys.readouterr().out)
        asked = Parrot.asked, len(server.requests)
        assert main(command(world, server)) == 0
        again = json.loads(capsys.readouterr().out)
    finally:
        server.shutdown()
        server.server_close()
    assert (Parrot.asked, len(server.requests)) == asked and asked[0] == asked[1] > 0
    assert again["metrics"] == first["metrics"] and again["judge"]["cached"] == asked[1]
    rows = {(row["metric"], row["reading"]): row["value"] for row in first["metrics"]}
    assert rows["average", "corrected"] == pytest.approx(2.5)
    assert ("HD", "released") not in rows, "a bold name loses its dimension there"
    assert "HD" in first["not_computed"]["average (released)"]
    assert first["counts"]["dimensions unparsed (released)"] == asked[0]
    assert first["settings"]["data_sha256"] and first["versions"]["python"]


def test_a_judge_that_never_gives_a_score(world, capsys):
    """Another language, then nothing but errors: counted and said, no number and no 0."""
    server = Misbehaving()
    server.script = [completion("\u56db\u5206"), (400, {}, b"too long")]
    try:
        assert main(command(world, server)) == 0
        odd = json.loads(capsys.readouterr().out)
        assert main(command(world, server, "--judge-temperature", "1")) == 2
        refused = capsys.readouterr().err
    finally:
        server.shutdown()
        server.server_close()
    assert not odd["metrics"] and odd["judge"]["tokens_in"] == 10
    assert odd["counts"] == {
        "answers cut off": 0,
        "cases failed, scored as empty answers": 0,
        "dimensions unparsed (corrected)": 4,
        "dimensions unparsed (released)": 4,
    }
    assert odd["not_computed"]["HD (corrected)"] == "no reply of the judge has this score"
    assert "HTTP 400 too long; check --judge" in refused


def evaluate(world, capsys, *more):
    """The code of a run on the world's questions, and what it said on the error stream."""
    code = main(["eval", "videorefer-bench-q", *flags_of(world), *more])
    return code, capsys.readouterr().err


Q = "videorefer_bench_q.json"


def flags_of(world):
    places = {"data": world / Q, "adapter": world / "adapter", "out": world / "out"}
    return [word for name, place in places.items() for word in (f"--{name}", str(place))]


def test_another_media_folder_is_another_run(world, capsys, monkeypatch):
    assert evaluate(world, capsys)[0] == 0
    monkeypatch.chdir(world)
    assert evaluate(world, capsys, "--root", ".")[0] == 0, "the same folder by another name"
    asked, moved = Parrot.asked, world / "moved"
    moved.mkdir()
    for entry in list(world.iterdir()):
        if entry.is_dir() and entry not in (moved, world / "out", world / "adapter"):
            (moved / entry.name).symlink_to(entry)
    code, said = evaluate(world, capsys, "--root", str(moved))
    assert code == 2 and f"root: '{world}' there, '{moved}' here" in said
    assert Parrot.asked == asked


def test_bad_input_is_named_and_counted(world, capsys):
    """A video that is gone, a mask of another size, an id that occurs twice."""
    records = json.loads((world / Q).read_text())
    (one, *_, other), count = records, len(records)
    gone = {**one, "id": "gone", "video": "videos/gone.npy"}
    mask = {"segmentation": {"size": [7, 9], "counts": "o1"}}
    small = {**one, "id": "small", "annotation": [{one["frame_idx"]: mask}]}
    (world / Q).write_text(json.dumps([*records, gone, small, {**other, "id": one["id"]}]))
    code = main(["eval", "videorefer-bench-q", *flags_of(world)])
    said = capsys.readouterr().out
    assert code == 0
    assert f"{count + 1} cases in 1 videos, 2 more could not be read" in said
    assert "2 questions could not be read and are in no number for 2 reasons, first: " in said
    assert f"1 ids occur more than once (all kept), first: {one['id']}\n" in said
    summary = json.loads((world / "out" / "summary.json").read_text())
    first, second = sorted(summary["material"]["questions_not_read"]["first"])
    assert "record gone" in first and "gone.npy" in first
    assert "record small" in second and "found (7, 9)" in second
    (accuracy, _) = summary["metrics"]
    assert accuracy["n"] == count + 1
    assert "gone.npy" in (world / "out" / "index.html").read_text()
