"""The ledger: everything wrapped is put back, whatever happens in between."""

from __future__ import annotations

import pytest

from sama_plugin.errors import PluginError
from sama_plugin.patching.ledger import Ledger


class Base:
    def greet(self):
        return "hello"


class Child(Base):
    pass


def louder(original):
    return lambda self: original(self) + "!"


def test_wrap_and_revert_leave_the_same_object():
    before = vars(Base)["greet"]
    with Ledger() as ledger:
        ledger.wrap(Base, "greet", louder, "tests shout")
        ledger.wrap(Base, "greet", louder, "twice")
        assert Base().greet() == "hello!!"
    assert vars(Base)["greet"] is before


def test_an_inherited_attribute_is_removed_again():
    with Ledger() as ledger:
        ledger.wrap(Child, "greet", louder, "only the child")
        assert (Child().greet(), Base().greet()) == ("hello!", "hello")
    assert "greet" not in vars(Child)


def test_reverted_after_an_error():
    with pytest.raises(ZeroDivisionError), Ledger() as ledger:
        ledger.wrap(Base, "greet", louder, "fails")
        raise ZeroDivisionError
    assert Base().greet() == "hello"


def test_lines_say_what_and_why():
    said = []
    with Ledger(announce=said.append) as ledger:
        ledger.wrap(Base, "greet", louder, "tests shout")
        ledger.note("the script's model", "attached")
    assert said == ledger.lines()
    assert said[0].startswith("wrapped ") and said[0].endswith("Base.greet: tests shout")
    assert said[1] == "changed the script's model: attached"


def test_missing_attribute_is_an_error():
    with pytest.raises(PluginError, match="Base.shout: there is no such attribute"):
        Ledger().wrap(Base, "shout", louder, "no")


def test_a_later_change_by_others_is_left_and_reported():
    before, foreign = vars(Base)["greet"], lambda self: "mine"
    ledger = Ledger()
    ledger.wrap(Base, "greet", louder, "ours")
    Base.greet = foreign
    try:
        with pytest.raises(PluginError, match="replaced by other code"):
            ledger.revert()
        assert vars(Base)["greet"] is foreign
    finally:
        Base.greet = before
