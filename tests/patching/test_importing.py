"""Scripts are imported under their own name, with the folder above their outermost package
importable."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sama_plugin.errors import PluginError
from sama_plugin.patching.importing import find_entry, imported, locate


@pytest.fixture
def tree(tmp_path):
    """hostlib/ (package) / train/ (package) / run.py, and a lone script."""
    package = tmp_path / "hostlib" / "train"
    package.mkdir(parents=True)
    (tmp_path / "hostlib" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "run.py").write_text("def main():\n    return __name__\n")
    (tmp_path / "lone_script_x.py").write_text("def main():\n    return __name__\n")
    (tmp_path / "bad-name.py").write_text("")
    yield tmp_path
    for name in [
        name for name in sys.modules if name.split(".")[0] in ("hostlib", "lone_script_x")
    ]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("file", "module"),
    [("hostlib/train/run.py", "hostlib.train.run"), ("lone_script_x.py", "lone_script_x")],
)
def test_name_and_root(tree, file, module):
    target = locate(str(tree / file))
    assert (target.module, target.root) == (module, tree)
    path = list(sys.path)
    with imported(target) as loaded:
        assert find_entry(loaded, "main")() == module != "__main__"
    assert sys.path == path


def test_dotted_module_from_the_working_folder(tree, monkeypatch):
    monkeypatch.chdir(tree)
    target = locate("hostlib.train.run")
    with imported(target) as loaded:
        assert Path(loaded.__file__) == tree / "hostlib/train/run.py"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no/such/script.py", "no such script"),
        ("no_such_module_here", "neither a command, a .py file nor an importable module"),
        ("no_such_package.module", "cannot find module"),
        ("bad-name.py", "not a Python name"),
    ],
)
def test_bad_targets(tree, monkeypatch, text, message):
    monkeypatch.chdir(tree)
    with pytest.raises(PluginError, match=message):
        locate(text)


@pytest.mark.parametrize("content", [b"def main(:\n", b"\xff\xfe", b"a = '\x00'\n"])
def test_what_is_no_python_is_said(tmp_path, content):
    script = tmp_path / "own.py"
    script.write_bytes(content)
    with pytest.raises(PluginError, match="own.py is no Python source"):
        locate(str(script))


def test_a_script_may_declare_its_encoding(tmp_path):
    script = tmp_path / "own_words.py"
    script.write_bytes("# -*- coding: latin-1 -*-\nname = 'Müller'\n".encode("latin-1"))
    with imported(locate(str(script))) as module:
        assert module.name == "Müller"


def test_a_taken_name_is_refused(tmp_path):
    script = tmp_path / "json.py"
    script.write_text("def main(): pass\n")
    import json  # noqa: F401

    with pytest.raises(PluginError, match="name is taken by"), imported(locate(str(script))):
        pass


def test_missing_entry_names_what_is_there(tree):
    found = imported(locate(str(tree / "lone_script_x.py")))
    message = r"no function mian\(\) .did you mean 'main'"
    with found as module, pytest.raises(PluginError, match=message):
        find_entry(module, "mian")


def test_packages_without_init_are_named_by_what_the_script_imports(tmp_path):
    """The script imports `nspace.tools`, so `nspace` is a package; `tree` above it is a folder."""
    folder = tmp_path / "tree" / "nspace" / "train"
    folder.mkdir(parents=True)
    (tmp_path / "tree" / "nspace" / "tools.py").write_text("")
    (folder / "go.py").write_text("import nspace.tools\nfrom os import path\n")
    (folder / "alone.py").write_text("import os\n")
    target = locate(str(folder / "go.py"))
    assert (target.module, target.root) == ("nspace.train.go", tmp_path / "tree")
    assert locate(str(folder / "alone.py")).module == "alone"
