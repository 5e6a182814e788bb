"""Settings: unknown keys, wrong types and origins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Optional

import pytest

from sama_plugin.errors import ConfigError
from sama_plugin.settings import dump_yaml, from_dict, load_yaml, to_dict


@dataclass
class Inner:
    size: int = 3
    rate: float = 1e-4
    names: tuple[str, ...] = ("a",)


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    kind: Literal["x", "y"] = "x"
    path: Optional[str] = None
    many: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"iner": {}}, "unknown key iner .did you mean 'inner'"),
        ({"inner": {"siz": 1}}, "unknown key inner.siz .did you mean 'size'"),
        ({"inner": {"size": "three"}}, "inner.size should be int, found 'three'"),
        ({"inner": {"size": True}}, "inner.size should be int"),
        ({"inner": 3}, "inner should be a section"),
        ({"kind": "z"}, "kind is 'z'; allowed: 'x', 'y'"),
        ({"inner": {"names": "a"}}, "inner.names should be a list"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(Outer, values, "file.yaml")


def test_yaml_scientific_notation_is_a_float():
    assert from_dict(Inner, {"rate": "2e-5"}).rate == 2e-5


def test_origins_and_overrides(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("inner: {size: 5}\n")
    loaded, origins = load_yaml(Outer, path, ["inner.rate=0.5", "kind=y"])
    assert (loaded.inner.size, loaded.inner.rate, loaded.kind) == (5, 0.5, "y")
    assert origins == {
        "inner.size": str(path),
        "inner.rate": "command line",
        "kind": "command line",
        "inner.names": "default",
        "path": "default",
        "many": "default",
    }


def test_origins_inside_lists(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("many: [{size: 5}, {rate: 1.0}]\n")
    origins = load_yaml(Outer, path)[1]
    assert (origins["many.0.size"], origins["many.0.rate"]) == (str(path), "default")
    assert (origins["many.1.size"], origins["many.1.rate"]) == ("default", str(path))
    origins = load_yaml(Outer, path, ["many=[{size: 7}]"])[1]
    found = {key: origins[key] for key in origins if key.startswith("many")}
    asked = {"many.0.size": "command line"}
    assert found == {**asked, "many.0.rate": "default", "many.0.names": "default"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("inner.siz=1", "^command line: unknown key inner.siz .did you mean 'size'"),
        ("iner.size=1", "^command line: unknown key iner .did you mean 'inner'"),
        ("inner.size=x", "^command line: inner.size should be int"),
        ("many=[{size: x}]", r"^command line: many\[0\].size should be int"),
        ("kind=y", r"/sub/inner.yaml: unknown key inner.sise .did you mean 'size'"),
    ],
)
def test_an_error_says_which_of_the_origins_is_wrong(tmp_path, override, message):
    path, inner = tmp_path / "c.yaml", tmp_path / "sub" / "inner.yaml"
    inner.parent.mkdir()
    inner.write_text("size: 5\n" if "kind" not in override else "sise: 5\n")
    path.write_text("inner: sub/inner.yaml\nmany: [{size: 3}]\n")
    with pytest.raises(ConfigError, match=message):
        load_yaml(Outer, path, [override])


def test_a_section_may_be_another_file(tmp_path):
    path, inner = tmp_path / "c.yaml", tmp_path / "sub" / "inner.yaml"
    inner.parent.mkdir()
    inner.write_text("size: 5\n")
    path.write_text("inner: sub/inner.yaml\npath: sub/inner.yaml\n")
    loaded, origins = load_yaml(Outer, path, ["inner.rate=0.5"])
    assert (loaded.inner.size, loaded.inner.rate, loaded.path) == (5, 0.5, "sub/inner.yaml")
    assert (origins["inner.size"], origins["inner.rate"]) == (str(inner), "command line")


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        (b"\x80", (), "not valid YAML"),
        (b"kind: x", ("kind=[1",), "override 'kind=.1': the value is not valid YAML"),
        (None, ("knd=x",), "^command line: unknown key knd .did you mean 'kind'"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, content, overrides, message):
    path = None if content is None else tmp_path / "x.yaml"
    if path is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_yaml(Outer, path, overrides)


def test_round_trip(tmp_path):
    value = Outer(Inner(7, 0.25, ("b", "c")), "y", "somewhere")
    dump_yaml(value, tmp_path / "out.yaml")
    assert load_yaml(Outer, tmp_path / "out.yaml")[0] == value
    assert from_dict(Outer, to_dict(value)) == value
