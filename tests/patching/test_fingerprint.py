"""A fingerprint sees what code does, not how it is written down."""

from __future__ import annotations

import importlib.util
import textwrap

import pytest

from sama_plugin.patching.fingerprint import Fingerprint, body_of, globals_of, parameters_of

BASE = """
import os
LIMIT = 3
def target(self, a, b=1, *rest, c=2, **more):
    inner = lambda: LIMIT
    return [os.path.join(a, str(x)) for x in rest] + [inner(), f"{b}!"]
"""
SAME = [
    BASE.replace("    inner", '    """Now with words."""\n    # and why\n    inner'),
    BASE.replace("    inner = lambda: LIMIT", "    inner = (lambda:\n             LIMIT)"),
    BASE.replace("b=1", "b: int = 1").replace("more):", "more) -> list:"),
    BASE.replace("\ndef", "\n\n\n\ndef"),
]
OTHER = [
    BASE.replace("b=1", "b=2"),
    BASE.replace("str(x)", "repr(x)"),
    BASE.replace("c=2", "d=2"),
    BASE.replace("+ [inner", "- [inner"),
]


@pytest.fixture
def load(tmp_path):
    """Source text to the function `target` of a fresh module."""
    counter = iter(range(100))

    def make(source):
        path = tmp_path / f"module_{next(counter)}.py"
        path.write_text(textwrap.dedent(source))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.target

    return make


@pytest.mark.parametrize("source", SAME)
def test_words_comments_and_layout_do_not_count(load, source):
    assert Fingerprint.of(load(source)).same_code(Fingerprint.of(load(BASE)))


@pytest.mark.parametrize("source", OTHER)
def test_every_change_of_meaning_counts(load, source):
    assert not Fingerprint.of(load(source)).same_code(Fingerprint.of(load(BASE)))


def test_parts(load):
    function = load(BASE)
    assert parameters_of(function) == "self, a, b=, *rest, c=, **more"
    assert globals_of(function) == ("LIMIT", "os")
    found = Fingerprint.of(function, "here")
    assert Fingerprint.read(found.to_json()) == found


def test_the_digest_is_the_same_on_every_python():
    def doubled(a, b=1):
        return [f"{a}{x:>3}" for x in range(b)] or {"k": (a, not b)}

    assert body_of(doubled) == "e73ac3f90d15f6ce"


def test_code_without_source_has_no_digest():
    assert body_of(len) is None and globals_of(len) == ()
