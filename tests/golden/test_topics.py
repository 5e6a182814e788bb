"""No golden topic without a reader: every folder below $SAMA_GOLDEN is compared by some test.

The comparisons themselves lie beside the rooms they are about; `pytest -v tests/golden` prints
which file reads which topic.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


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
    files = [file for file in sorted(TESTS.rglob("*.py")) if file.parent != Path(__file__).parent]
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
