"""Which adapter holds a host, when none or several could."""

from __future__ import annotations

import pytest

from sama_plugin.errors import HostError
from sama_plugin.hosts.base import HOSTS, find_adapter
from sama_plugin.hosts.internvl.adapter import InternVLAdapter
from tests.hosts.tiny import TINY


class Another(InternVLAdapter):
    name = "another"


def test_two_adapters_that_recognise_a_host_are_both_named(monkeypatch):
    model, _ = TINY["internvl"].build()
    assert find_adapter(model).name == "internvl"
    monkeypatch.setitem(HOSTS._targets, "another", Another)
    message = "InternVLForConditionalGeneration: another, internvl; remove the entry point"
    with pytest.raises(HostError, match=message):
        find_adapter(model)


def test_a_model_that_nobody_holds_lists_what_was_tried():
    with pytest.raises(HostError, match="recognises .*object; known hosts: internvl, internvl_ch"):
        find_adapter(object())
