"""Transformers-native InternVL."""

from __future__ import annotations

from tests.hosts.conformance import Conformance


class TestInternVL(Conformance):
    host = "internvl"
