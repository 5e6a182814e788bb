"""No golden topic without a reader: every folder below $SAMA_GOLDEN is compared by some test.

The comparisons themselves lie beside the rooms they are about; `pytest tests/golden` runs them all
(see conftest.py here).
"""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.golden.conftest import pytest_collection_modifyitems, pytest_configure

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent


def names_in(file: Path) -> set[str]:
    """Strings of a test file but no docstrings; of paths also the folders inside them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]
    return {part for text in texts for part in text.split("/")}


@pytest.fixture(scope="module")
def readers() -> dict[str, set[str]]:
    """Test file to the strings in it."""
    files = [file for file in sorted(TESTS.rglob("*.py")) if file.parent != HERE]
    return {str(file.relative_to(TESTS)): names_in(file) for file in files}


def test_every_topic_is_read(sama_golden, readers):
    topics = sorted(folder.name for folder in sama_golden.iterdir() if folder.is_dir())
    assert topics, f"{sama_golden} holds no topics"
    table = {topic: [file for file, names in readers.items() if topic in names] for topic in topics}
    for topic, files in table.items():
        print(f"{topic:28} {', '.join(files) or 'NO TEST'}")
    unread = [topic for topic, files in table.items() if not files]
    assert not unread, f"no test reads the golden topics {', '.join(unread)}"


def test_a_topic_in_prose_is_not_read(tmp_path):
    file = tmp_path / "test_x.py"
    file.write_text('"""some_topic"""\nFOLDER = "root/other_topic/case"\n')
    assert "other_topic" in names_in(file) and "some_topic" not in names_in(file)


def test_asking_for_this_folder_collects_the_comparisons():
    config = asked(HERE)
    added = {str(Path(file).relative_to(TESTS)) for file in config.args[1:]}
    assert {"nn/test_golden_aggregator.py", "segment/test_golden.py", "nn/test_losses.py"} <= added
    items = [SimpleNamespace(fixturenames=names) for names in (["sama_golden"], ["tmp_path"])]
    pytest_collection_modifyitems(config, items)
    assert [item.fixturenames for item in items] == [["sama_golden"]]


@pytest.mark.parametrize("folders", [[TESTS], [HERE, TESTS / "nn"]])
def test_asking_for_anything_else_collects_what_was_asked_for(folders):
    config = asked(*folders)
    assert config.args == [str(folder) for folder in folders]
    items = [SimpleNamespace(fixturenames=["tmp_path"])]
    pytest_collection_modifyitems(config, items)
    assert len(items) == 1


def asked(*folders):
    """What pytest's configuration is after `pytest FOLDERS`."""
    hook = SimpleNamespace(pytest_deselected=lambda items: None)
    config = SimpleNamespace(args=[str(folder) for folder in folders], hook=hook, stash={})
    pytest_configure(config)
    return config
