"""Every built-in name of every registry resolves, duplicates raise, and extensions are found."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from sama_plugin.errors import ConfigError
from sama_plugin.registry import Registry

PACKAGE = Path(__file__).resolve().parents[2] / "sama_plugin"


def registries() -> list[tuple[str, str]]:
    """(module, attribute) of every module-level `X = Registry(...)`."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            value = getattr(node, "value", None)
            assigned = isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(value, ast.Call)
            if assigned and getattr(value.func, "id", "") == "Registry":
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
                module = ".".join(part for part in parts if part != "__init__")
                found.append((module, target.id))
    return found


@pytest.mark.parametrize(("module", "attribute"), registries())
def test_every_name_resolves(module, attribute):
    registry = getattr(importlib.import_module(module), attribute)
    assert registry.names()
    for name in registry.names():
        assert registry.get(name) is not None, name


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ConfigError, match="unknown round shape 'cirle' .did you mean 'circle'"):
        Registry("round_shapes", {"circle": "math:pi", "square": "math:e"}).get("cirle")


def test_duplicate_names_both_sides():
    registry = Registry("shapes", {"circle": "math:pi"})
    with pytest.raises(ConfigError, match="math:pi and math:e"):
        registry.register("circle", "math:e")


def test_broken_target_says_where_it_points():
    with pytest.raises(ConfigError, match="no_such_module:thing"):
        Registry("shapes", {"circle": "no_such_module:thing"}).get("circle")
