"""Patches: known code only, all or none, once, exactly undone, and never on foundations."""

from __future__ import annotations

import functools
import sys
import types

import pytest

from sama_plugin.errors import PluginError
from sama_plugin.patching.fingerprint import Fingerprint
from sama_plugin.patching.ledger import Ledger
from sama_plugin.patching.patch import Patch, apply, copies_of, resolve, state

SOURCE = """
FLAG = False
class Reader:
    def __init__(self):
        super(Reader, self).__init__()
        self.opened = True
    @staticmethod
    def static(x): return x + 1
    @classmethod
    def named(cls): return cls.__name__
    def method(self): return "method"
def build(n): return list(range(n))
def main(): return build(3), FLAG, Reader().method()
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A module `patched_host` with one function, one class and one flag."""
    (tmp_path / "patched_host.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import patched_host

    yield patched_host
    del sys.modules["patched_host"]


def longer(original):
    return lambda n: [*original(n), "more"]


def build_patch(host, **changes):
    values = {
        "id": "build",
        "target": "patched_host:build",
        "why": "tests want more",
        "make": longer,
        "known": (Fingerprint.of(host.build, "as read"),),
        "needs": ("patched_host:main", "build"),
    }
    return Patch(**{**values, **changes})


def test_wrap_replace_and_revert_leave_the_same_objects(host):
    before = dict(vars(host)), dict(vars(host.Reader))
    patches = [
        build_patch(host),
        Patch("flag", "patched_host:FLAG", "on", lambda _: True, kind="replace"),
        Patch("static", "patched_host:Reader.static", "twice", lambda old: lambda x: 2 * old(x)),
        Patch("named", "patched_host:Reader.named", "loud", lambda old: lambda c: old(c).upper()),
        Patch("extra", "patched_host:Reader.extra", "new", lambda _: lambda self: 7, kind="add"),
    ]
    with Ledger() as ledger:
        apply(patches, ledger)
        assert host.main() == ([0, 1, 2, "more"], True, "method")
        reader = host.Reader()
        assert (reader.static(1), host.Reader.static(1), host.Reader.named()) == (4, 4, "READER")
        assert reader.extra() == 7
        assert [line.split()[0] for line in ledger.lines()] == [
            *("wrapped", "replaced", "wrapped", "wrapped", "added")
        ]
        assert "patched_host.build: tests want more" in ledger.lines()[0]
    assert (dict(vars(host)), dict(vars(host.Reader))) == before


def test_applying_twice_changes_nothing(host):
    with Ledger() as ledger:
        apply([build_patch(host)], ledger)
        apply([build_patch(host)], ledger)
        assert host.build(1) == [0, "more"] and len(ledger.changes) == 1
        assert state(build_patch(host)).verdict == "applied"


def test_a_wrapper_around_ours_is_not_ours(host):
    patch = build_patch(host)
    with Ledger() as ledger:
        apply([patch], ledger)
        ours = host.build
        host.build = functools.wraps(ours)(lambda n: ours(n))
        assert state(patch).verdict == "unverified"
        host.build = ours


def test_moved_on_upstream_is_refused_with_the_digest_and_what_to_do(host):
    known = Fingerprint("as read", "n, m", "0" * 16, ())
    patch = build_patch(host, known=(known,))
    untouched = host.build
    with pytest.raises(PluginError) as error:
        apply([patch], Ledger())
    message = str(error.value)
    assert Fingerprint.of(host.build).body in message and "as read" in message
    assert "--plugin.allow-unverified build" in message
    assert host.build is untouched


def test_what_is_let_through_is_recorded(host):
    patch = build_patch(host, known=(Fingerprint("as read", "n", "0" * 16),))
    with Ledger() as ledger:
        apply([patch], ledger, allow=["build"])
        assert host.build(0) == ["more"]
        assert ledger.lines()[0].startswith("allowed patched_host:build: not verified, build: code")


def test_all_or_none(host):
    ledger, before = Ledger(), dict(vars(host))
    gone = Patch("gone", "patched_host:gone", "?", longer)
    with pytest.raises(PluginError, match="gone .patched_host:gone.: there is no such name"):
        apply([build_patch(host), gone], ledger)
    assert dict(vars(host)) == before and not ledger.changes


def foreign(n):
    return ["foreign"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda host: {"target": "patched_host:Nobody.x"}, "has no 'Nobody'"),
        (lambda host: {"target": "no_such_host:x"}, "cannot patch no_such_host:x: No module"),
        (lambda host: {"kind": "add"}, "the host has its own by now .from patched_host"),
        (lambda host: {"needs": ("patched_host:main", "helper")}, "main no longer uses helper"),
        (lambda host: {"needs": ("patched_host:start", "x")}, "start is gone, which should use x"),
        (lambda host: {"target": "torch:tensor"}, "torch, which no patch may touch"),
        (lambda host: {"target": "builtins:len"}, "builtins, which no patch may touch"),
        (lambda host: {"target": "sys:exit"}, "sys, which no patch may touch"),
    ],
)
def test_what_cannot_be_patched(host, change, message):
    with pytest.raises(PluginError, match=message):
        apply([build_patch(host, **change(host))], Ledger())


def test_a_function_that_others_patched_is_named(host, monkeypatch):
    monkeypatch.setattr(host, "build", foreign)
    patch = build_patch(host, known=(Fingerprint("as read", "n", "0" * 16),))
    with pytest.raises(PluginError, match="put there by tests.patching.test_patch is none of"):
        apply([patch], Ledger())


def test_copies_by_from_import_are_found(host):
    copier = types.ModuleType("copier_of_build")
    copier.make = host.build
    sys.modules["copier_of_build"] = copier
    try:
        assert copies_of(host.build, resolve("patched_host:build")) == ["copier_of_build.make"]
        with pytest.raises(PluginError, match="copier_of_build.make imported the original by name"):
            apply([build_patch(host, copies="refuse")], Ledger())
        with Ledger() as ledger:
            apply([build_patch(host, copies="keep")], ledger)
            assert copier.make(1) == [0]
    finally:
        del sys.modules["copier_of_build"]


@pytest.mark.parametrize(
    ("second", "message"),
    [({"id": "other"}, "two patches for patched_host:build"), ({}, "two patches for build")],
)
def test_one_binding_one_patch(host, second, message):
    with pytest.raises(PluginError, match=message):
        apply([build_patch(host), build_patch(host, **second)], Ledger())


def test_another_ledger_s_patch_is_a_conflict(host):
    with Ledger() as ledger:
        apply([build_patch(host)], ledger)
        with pytest.raises(PluginError, match="patched by build already"):
            apply([build_patch(host, id="other")], Ledger())


def test_allow_must_name_a_patch(host):
    with pytest.raises(PluginError, match="bulid: no such patch .did you mean 'build'"):
        apply([build_patch(host)], Ledger(), allow=["bulid"])


def test_class_swap_keeps_two_argument_super_and_is_undone(host):
    class Louder(host.Reader):
        def method(self):
            return super().method() + "!"

    reader, before = host.Reader(), host.Reader
    with Ledger() as ledger:
        ledger.swap_class(reader, Louder, "shouts")
        ledger.swap_class(reader, Louder, "again")
        assert reader.method() == "method!" and reader.opened and len(ledger.changes) == 1
        assert Louder().opened  # `super(Reader, self)` still finds its class by name
    assert type(reader) is before
    with pytest.raises(PluginError, match="it is no subclass of it"):
        ledger.swap_class(reader, dict, "no")


def test_digest_tells_ledgers_apart(host):
    def made(why):
        ledger = Ledger()
        ledger.note("x", why)
        return ledger.digest()

    assert made("a") == made("a") != made("b")
