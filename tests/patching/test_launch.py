"""The launcher: its flags are taken out, the script runs under its own name, everything is put
back."""

from __future__ import annotations

import json
import sys

import pytest

from sama_plugin.errors import ConfigError, PluginError
from sama_plugin.patching import launch as launcher
from sama_plugin.patching.launch import LaunchOptions, launch, split_flags
from sama_plugin.registry import Registry

SCRIPT = """
import json, sys
import string


def main():
    return {"name": __name__, "argv": sys.argv[1:], "digits": string.capwords("a b")}


def other():
    return [json.load(open(path)) for path in sys.argv[1:]]
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "launched_script.py"
    path.write_text(SCRIPT)
    yield str(path)
    sys.modules.pop("launched_script", None)


@pytest.fixture
def bridge():
    """A bridge that patches one function of the standard library; the options it saw."""
    import string

    seen = []

    def install(ledger, options):
        seen.append(options)
        ledger.wrap(string, "capwords", lambda original: lambda text: "patched", "test")

    launcher.BRIDGES.register("stub_bridge", install)
    yield seen
    del launcher.BRIDGES._targets["stub_bridge"]


@pytest.mark.parametrize(
    ("arguments", "options", "rest"),
    [
        (["s.py", "--plugin", "sama", "--lr", "1"], {"plugin": "sama"}, ["s.py", "--lr", "1"]),
        (["--plugin=sama", "s.py", "--a=b"], {"plugin": "sama"}, ["s.py", "--a=b"]),
        (
            ["s.py", "--plugin.data=x=y.jsonl", "--plugin.set", "a=1", "--plugin.set=b.c=2"],
            {"data": "x=y.jsonl", "set": ("a=1", "b.c=2")},
            ["s.py"],
        ),
        (
            ["s.py", "--plugin.allow-unverified", "a", "--plugin.allow-unverified=b"],
            {"allow_unverified": ("a", "b")},
            ["s.py"],
        ),
        (["s.py", "--plugins", "--plug", "in"], {}, ["s.py", "--plugins", "--plug", "in"]),
    ],
)
def test_flags_are_split(arguments, options, rest):
    assert split_flags(arguments) == (LaunchOptions(**options), rest)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s.py", "--plugin.dat", "x"], "unknown flag --plugin.dat .did you mean 'plugin.data'"),
        (["s.py", "--plugin.data"], "--plugin.data needs a value"),
        (["s.py", "--plugin", "--lr"], "--plugin needs a value"),
        ([], "name a script first"),
        (["--lr", "3"], "name a script first"),
    ],
)
def test_bad_command_lines(arguments, message):
    with pytest.raises(PluginError, match=message):
        launch(arguments)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no plugin; add --plugin sama"),
        (["--plugins=sama"], "no plugin .found --plugins.; add --plugin sama"),
        (["--plugin", "foo"], "unknown plugin 'foo'; known: sama"),
        (["--plugin", "smaa"], "unknown plugin 'smaa' .did you mean 'sama'"),
        (
            ["--plugin=sama", "--plugin.bridge=stub_brige"],
            "bridge 'stub_brige' .did you mean 'stub_bridge'",
        ),
        (["--plugin=sama", "--plugin.set=lora.rr=4"], "command line: unknown key lora.rr"),
        (["--plugin=sama", "--plugin.set=a=[1"], "'a=.1': the value is not valid YAML"),
        (["--plugin=sama", "--plugin.config=no.yaml"], "cannot read config no.yaml"),
    ],
)
def test_what_is_named_must_be_known(script, bridge, flags, message):
    data = [] if "--plugin=sama" not in flags else [f"--plugin.data={script}"]
    with pytest.raises((PluginError, ConfigError), match=message):
        launch([script, *flags, *data])


def test_two_families_that_claim_a_script_are_both_named(script, monkeypatch):
    claims = Registry("claims", {})
    for name in ("one", "other"):
        claims.register(name, lambda target, name=name: f"{target.module} looks like {name}")
    monkeypatch.setattr(launcher, "CLAIMS", claims)
    message = (
        "several bridges claim launched_script .one: launched_script looks like one; other: "
        "launched_script looks like other.; say which: --plugin.bridge NAME"
    )
    with pytest.raises(PluginError, match=message):
        launch([script, "--plugin", "sama"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"plugin": ', "arguments.json are not valid JSON"),
        ('["plugin"]', "arguments.json hold a list; give one JSON object"),
        ('{"plugin": "sama", "plugin.data": 5}', "--plugin.data: 5 should be a text"),
        ('{"plugin.set": {"a": 1}}', "--plugin.set: .* should be a text or a list of texts"),
    ],
)
def test_bad_json_arguments(script, tmp_path, text, message):
    arguments = tmp_path / "arguments.json"
    arguments.write_text(text)
    with pytest.raises(PluginError, match=message):
        launch([script, str(arguments)])


def test_script_runs_patched_under_its_own_name_and_all_is_put_back(script, bridge, capsys):
    import string

    argv, path = list(sys.argv), list(sys.path)
    flags = ["--plugin", "sama", "--plugin.bridge", "stub_bridge", "--lr", "1e-4"]
    result = launch([script, *flags])
    assert result == {"name": "launched_script", "argv": ["--lr", "1e-4"], "digits": "patched"}
    assert (sys.argv, sys.path, string.capwords("a b")) == (argv, path, "A B")
    assert "sama: wrapped string.capwords: test" in capsys.readouterr().err


def test_json_arguments_lose_our_keys(script, bridge, tmp_path):
    arguments = tmp_path / "arguments.json"
    values = {"plugin": "sama", "plugin.bridge": "stub_bridge", "plugin.entry": "other", "lr": 1}
    arguments.write_text(json.dumps(values))
    assert launch([script, str(arguments)]) == [{"lr": 1}]
    assert json.loads(arguments.read_text()) == values
    assert bridge[0].entry == "other"
