"""`sama chat` from flags to files, with a tiny model on disk, and what it says to bad input."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from sama_plugin.cli import main
from sama_plugin.cli.chat import parse_region
from sama_plugin.errors import RegionError
from sama_plugin.miniworld.host import tiny_host
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import save_adapter
from tests.infer.conftest import clip, grammar  # noqa: F401
from tests.model.conftest import tiny_config


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """--model and --adapter of a tiny host."""
    folder = tmp_path_factory.mktemp("model")
    host, tokenizer = tiny_host(seed=0)
    host.save_pretrained(folder / "host")
    tokenizer.save_pretrained(folder / "host")
    save_adapter(attach(host, tokenizer, tiny_config()), folder / "run" / "sama_adapter")
    return ["--model", str(folder / "host"), "--adapter", str(folder / "run"), "--device", "cpu"]


@pytest.fixture
def video(clip, tmp_path):  # noqa: F811
    """A clip on disk."""
    np.save(tmp_path / "clip.npy", clip)
    return str(tmp_path / "clip.npy")


def test_one_shot_writes_what_it_says(model, video, tmp_path, capsys):
    out = tmp_path / "out"
    asked = [
        "--region",
        "dog@1:box=8,10,30,24",
        "--ask",
        "what does @dog do?",
        "--ask",
        "and @1.1 ?",
    ]
    assert main(["chat", *model, "--video", video, *asked, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "9 frames" in printed and "visible in" in printed
    record = json.loads((out / "conversation.json").read_text())
    assert [turn["question"] for turn in record["turns"]] == ["what does @dog do?", "and @1.1 ?"]
    assert all(turn["answer"] in printed for turn in record["turns"])
    assert (out / "index.html").is_file() and (out / "turn-2.mp4").is_file()


def test_a_question_that_fails_loses_no_earlier_answer(model, video, tmp_path, capsys):
    out = tmp_path / "out"
    asked = ["--ask", "what is it?", "--ask", "and @nobody ?", "--out", str(out), "--json"]
    assert main(["chat", *model, "--video", video, *asked]) == 2
    said = capsys.readouterr()
    assert "@nobody, which is not named" in said.err
    for record in (json.loads(said.out), json.loads((out / "conversation.json").read_text())):
        assert [turn["question"] for turn in record["turns"]] == ["what is it?"]
    assert (out / "index.html").is_file()


def test_json_is_the_only_output(model, video, capsys):
    assert main(["chat", *model, "--video", video, "--ask", "what is it?", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["turns"][0]["phrases"][0]["track"]["total"] == 9


def test_interactive(model, video, tmp_path, capsys, monkeypatch):
    lines = [
        "/help",
        "/region cup@0.1s:points=20,16;22,18",
        "/region cup@2:box=0,0,4,4",
        "where is @cup ?",
        "where is @nobody ?",
        "/regions",
        "/frames",
        "/wrong",
        f"/save {tmp_path / 'saved'}",
        "/quit",
        "never asked",
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    assert main(["chat", *model, "--video", video, "--max-new-tokens", "16"]) == 0
    printed = capsys.readouterr().out
    for words in ("named twice", "not named", "@cup, @1.1, @1.2", "prompted", "unknown command"):
        assert words in printed
    turns = json.loads((tmp_path / "saved" / "conversation.json").read_text())["turns"]
    assert [turn["question"] for turn in turns] == ["where is @cup ?"]


def test_a_slip_at_the_prompt_loses_nothing(model, video, capsys, monkeypatch):
    """Ctrl-C where a question is awaited, and a line in another encoding."""

    class Terminal(io.TextIOWrapper):
        slipped = False

        def readline(self, *size):
            if not self.slipped:
                self.slipped = True
                raise KeyboardInterrupt
            return super().readline(*size)

    typed = b"caf\xe9?\n/region cup@2:box=0,0,4,4\n/regions\n/quit\n"
    monkeypatch.setattr("sys.stdin", Terminal(io.BytesIO(typed), encoding="utf-8"))
    assert main(["chat", *model, "--video", video]) == 0
    printed = capsys.readouterr().out
    for words in ("/quit leaves\n", "character 3 that are no UTF-8", "      @cup\n"):
        assert words in printed


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--video", "nowhere.mp4", "--ask", "x"], "nowhere.mp4"),
        (["--ask", "what is @dog ?"], "not named"),
        (["--ask", "what is <|region|>?"], "placeholder"),
        (["--region", "dog:1:box=1", "--ask", "x"], "NAME@FRAME"),
        (["--region", "dog@99:box=1,1,5,5", "--ask", "x"], "9 frames"),
        (["--json"], "--ask"),
        (["--ask", "x", "--out", "{file}/out"], "cannot write"),
        (["--ask", "x", "--adapter", "{tmp}"], "not a sama_adapter"),
        (["--ask", "x", "--model", "{tmp}"], "neither a packaged model"),
        (["--ask", "x", "--device", "nowhere"], "device 'nowhere'"),
        (["--ask", "x", "--temperature", "nan"], "temperature nan"),
        (["--ask", "x", "--max-new-tokens", "-3"], "max_new_tokens is -3"),
        (["--ask", "caf\udce9?"], "no UTF-8"),
    ],
)
def test_bad_input_ends_with_one_clear_message(model, video, tmp_path, capsys, flags, words):
    (tmp_path / "file").write_text("")
    flags = [flag.format(file=tmp_path / "file", tmp=tmp_path) for flag in flags]
    assert main(["chat", *model, "--video", video, *flags]) == 2
    message = capsys.readouterr().err
    assert words in message and "Traceback" not in message
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "clip.npy"}


@pytest.mark.parametrize(
    "spec, name, arguments",
    [
        ("dog@12:box=10,20,50.5,60", "dog", {"frame": 12, "box": (10, 20, 50.5, 60)}),
        ("a_b@3.5s:points=1,2;3,4", "a_b", {"time": 3.5, "points": [(1, 2), (3, 4)]}),
        (" cup@0:scribble=1,2;3,4;5,6 ", "cup", {"frame": 0, "scribble": [(1, 2), (3, 4), (5, 6)]}),
    ],
)
def test_region_specs(spec, name, arguments):
    assert parse_region(spec) == (name, arguments)


@pytest.mark.parametrize(
    "spec",
    [
        "dog",
        "dog@1",
        "dog@1.5:box=1,2,3,4",
        "dog@1.2.3s:box=1,2,3,4",
        "d@1:box=1,2,3",
        "d@1:box=1,2,3,4;5,6,7,8",
        "d@1:points=1",
        "d@1:box=a,b,c,d",
        "d@1:mask=nowhere.png",
    ],
)
def test_unreadable_region_specs_say_how_to_write_them(spec):
    with pytest.raises(RegionError, match="cannot read the region") as error:
        parse_region(spec)
    assert "literal" not in str(error.value) and "convert" not in str(error.value)
