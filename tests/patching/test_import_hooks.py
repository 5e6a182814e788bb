"""Acting on imports to come; a launcher that imports nothing heavy before the script does."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys

import pytest

from sama_plugin.errors import PluginError
from sama_plugin.patching.import_hooks import after_import, before_import
from sama_plugin.patching.ledger import Ledger
from tests.conftest import REPOSITORY
from tests.hosts.internvl_chat.lookalike import TREE

HEAVY = ("torch", "transformers", "peft", "accelerate", "numpy")
PROBE = f"""import sys
print("LOADED", [name for name in {HEAVY!r} if name in sys.modules])
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """`awaited/` with a submodule; imported by nobody yet."""
    (tmp_path / "awaited").mkdir()
    (tmp_path / "awaited" / "__init__.py").write_text("")
    (tmp_path / "awaited" / "part.py").write_text("class Thing:\n    size = 1\n")
    (tmp_path / "awaited" / "user.py").write_text("from awaited.part import Thing\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "awaited"]:
        del sys.modules[name]


def test_a_module_is_changed_before_its_importer_sees_it(package):
    def grow(module):
        module.Thing.size = 2

    finders = list(sys.meta_path)
    with after_import("awaited.part", grow):
        assert importlib.util.find_spec("awaited.part").name == "awaited.part"  # a query only
        assert "awaited.part" not in sys.modules
        user = importlib.import_module("awaited.user")
        assert user.Thing.size == 2
    assert sys.meta_path == finders
    part = sys.modules["awaited.part"]
    assert part.__spec__.loader is part.__loader__
    assert type(part.__loader__) is type(user.__loader__)
    assert "size = 1" in inspect.getsource(part)


def test_a_module_that_is_there_already_is_changed_at_once(package):
    part, seen = importlib.import_module("awaited.part"), []
    with after_import("awaited.part", seen.append):
        assert seen == [part]


def test_a_refusal_fails_the_import_and_leaves_no_module(package):
    def refuse(module):
        raise PluginError("not this one")

    with after_import("awaited.part", refuse), pytest.raises(PluginError, match="not this one"):
        importlib.import_module("awaited.user")
    assert "awaited.part" not in sys.modules
    assert importlib.import_module("awaited.user").Thing.size == 1


def test_what_a_package_needs_is_supplied_once_before_it_is_looked_for(package):
    asked = []

    def supply():
        asked.append(sorted(name for name in sys.modules if name.startswith("awaited")))
        importlib.import_module("awaited.part")  # an action imports too

    with before_import(lambda name: name.startswith("awaited."), supply):
        importlib.import_module("awaited")
        assert asked == []
        importlib.import_module("awaited.user")
    assert asked == [["awaited"]]


def test_a_ledger_leaves_what_it_holds_last_and_tells_it_the_error(package):
    import contextlib

    seen = []

    @contextlib.contextmanager
    def watching():
        try:
            yield "held"
        except PluginError as error:
            seen.append(str(error))
            raise
        finally:
            seen.append(part.Thing.size)

    part = importlib.import_module("awaited.part")
    with pytest.raises(PluginError), Ledger() as ledger:
        assert ledger.hold(watching()) == "held"
        ledger.put(part.Thing, "size", 5, "a test", "replaced")
        raise PluginError("ended")
    assert seen == ["ended", 1]


def test_revert_alone_leaves_what_is_held_too():
    ledger, finders = Ledger(), list(sys.meta_path)
    ledger.hold(before_import(lambda name: False, lambda: None))
    assert sys.meta_path != finders
    ledger.revert()
    assert sys.meta_path == finders


@pytest.mark.parametrize("host", ["plain", "internvl_chat"])
def test_nothing_heavy_is_imported_before_the_script_s_first_line(tmp_path, host):
    """Both bridges, on a script that says what is loaded and stops."""
    if host == "plain":
        script, flags = tmp_path / "own.py", ["--plugin.data", tmp_path / "data.jsonl"]
        script.write_text("")
        (tmp_path / "data.jsonl").write_text("")
    else:
        shutil.copytree(TREE, tmp_path / "tree")
        script = tmp_path / "tree" / "internvl" / "train" / "internvl_chat_finetune.py"
        flags = ["--plugin.compat", "auto"]
    script.write_text(f"{PROBE}sys.exit(7)\n{script.read_text()}")
    config = tmp_path / "plugin.yaml"
    config.write_text("lora: {r: 4}\n")
    flags += ["--plugin", "sama", "--plugin.config", config]
    done = started(script, flags)
    assert done.returncode == 7 and "LOADED []" in done.stdout, done.stdout + done.stderr


OWN = """
import json, sys
before = [name for name in ("torch", "transformers") if name in sys.modules]
from transformers import Trainer


def main():
    print("REPORT", json.dumps([before, hasattr(Trainer.__init__, "__wrapped__")]))
"""


@pytest.mark.slow
def test_a_trainer_imported_by_the_script_is_wrapped_and_must_be_used(tmp_path):
    script, data = tmp_path / "own.py", tmp_path / "data.jsonl"
    script.write_text(OWN)
    data.write_text("")
    done = started(script, ["--plugin", "sama", "--plugin.data", data])
    assert json.loads(done.stdout.partition("REPORT ")[2]) == [[], True], done.stderr
    assert "wrapped transformers.trainer.Trainer.__init__" in done.stderr
    assert done.returncode == 2 and "ended and constructed no transformers.Trainer" in done.stderr


def started(script, flags):
    return subprocess.run(
        [sys.executable, "-m", "sama_plugin", *map(str, (script, *flags))],
        cwd=script.parent,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )
