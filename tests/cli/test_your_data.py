"""The steps of docs/your-data.md, as they stand there, in a folder with nothing but the data."""

from __future__ import annotations

import json
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from sama_plugin import cli
from tests.architecture.commands import code_blocks
from tests.conftest import REPOSITORY

CHECKOUT = "path/to/checkout"


def steps():
    """(commands, training file) of the page's first part."""
    text = (REPOSITORY / "docs" / "your-data.md").read_text(encoding="utf-8")
    blocks = list(code_blocks(text.split("## What can be read")[0]))
    commands = [line for kind, block in blocks if kind == "bash" for line in block.splitlines()]
    (config,) = (block for kind, block in blocks if kind == "yaml")
    return [command for command in commands if command.strip()], config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the page supposes: `my/` with four pictures, COCO annotation, and some plain chat."""
    images = tmp_path / "my" / "images"
    images.mkdir(parents=True)
    rows, drawn, chat = [], [], []
    for number in range(4):
        pixels = np.full((48, 64, 3), 90, np.uint8)
        pixels[10:30, 8 + number : 28 + number] = (200, 30, 30)
        Image.fromarray(pixels).save(images / f"{number}.jpg")
        rows.append({"id": number, "file_name": f"{number}.jpg", "height": 48, "width": 64})
        left = 8 + number
        shape = [left, 10, left + 20, 10, left + 20, 30, left, 30]
        drawn.append({"id": number, "image_id": number, "category_id": 1, "segmentation": [shape]})
        said = [
            {"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": "Red."},
        ]
        chat.append({"id": number, "image": f"images/{number}.jpg", "conversations": said})
    coco = {"images": rows, "annotations": drawn, "categories": [{"id": 1, "name": "cup"}]}
    (tmp_path / "my" / "annotations.json").write_text(json.dumps(coco))
    (tmp_path / "my" / "chat.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in chat))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def follow(command: str, *more: str) -> int:
    """Do one line of the page."""
    words = shlex.split(command, comments=True)
    if words[0] == "cp":
        shutil.copy(words[1].replace(CHECKOUT, str(REPOSITORY)), words[2])
        return 0
    assert words[0] == "sama"
    return cli.main([*words[1:], *more])


def test_every_step_up_to_training(folder, capsys):
    commands, config = steps()
    (folder / "my" / "train.yaml").write_text(config)
    *before, train = commands
    assert [follow(command) for command in before] == [0] * len(before)
    assert (folder / "peek.html").is_file() and (folder / "stats.html").is_file()
    assert train == "sama train my/train.yaml"
    assert cli.main(["data", "check", "my/train.yaml"]) == 0
    capsys.readouterr()
    assert cli.main(["config", "show", "my/train.yaml"]) == 0
    assert "my/sama.yaml" in capsys.readouterr().out, "values and where they come from"


@pytest.mark.slow
def test_training(folder):
    commands, config = steps()
    (folder / "my" / "train.yaml").write_text(config)
    follow(next(command for command in commands if command.startswith("cp ")))
    assert follow(commands[-1], "train.steps=2") == 0
    assert (folder / "out" / "mine" / "sama_adapter").is_dir()


def test_from_the_wrong_folder_each_path_says_where_it_starts(folder, monkeypatch, capsys):
    commands, config = steps()
    (folder / "my" / "train.yaml").write_text(config.replace("sama.yaml", "../configs/mini.yaml"))
    assert follow(commands[-1]) == 2
    said = capsys.readouterr().err
    assert "'../configs/mini.yaml', which starts from the folder of that file" in said
    assert str(folder / "configs" / "mini.yaml") in said
    assert str(REPOSITORY / "configs" / "mini.yaml") in said, "the file that was meant"
    monkeypatch.chdir(folder / "my")
    assert cli.main(["data", "check", "my/annotations.json", "--format", "coco"]) == 2
    assert f"the path starts where the command runs: {folder / 'my'}" in capsys.readouterr().out
