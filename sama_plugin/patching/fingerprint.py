"""What a piece of somebody else's code looks like, so that a change of it is noticed.

A patch is written against code that was read. At launch the code that is installed is compared with
what was read: the parameters of a function, the digest of its body, and the globals it looks up.
The digest is taken over the syntax tree without docstrings, comments, annotations and line
numbers, in a form of our own, because Python's own dump differs between Python versions. Nothing of
the code itself is stored. Used by `patch.py`; the data is in `assets/patches/`.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from dataclasses import asdict, dataclass
from types import CodeType
from typing import Any, Mapping, Optional

DIGITS = 16
_SKIPPED = frozenset({"annotation", "returns", "type_comment", "type_params", "kind", "ctx"})


@dataclass(frozen=True)
class Fingerprint:
    """One known form of a function or class.

    Attributes:
        origin: where it was read, e.g. "InternVL 2410d1d internvl_chat".
        parameters: names in order, "*", "/" and "=" for defaults; None where Python cannot tell.
        body: digest of the normalised source; None for what has no Python source.
        globals: names the code looks up outside itself, sorted; only functions have them.
    """

    origin: str
    parameters: Optional[str]
    body: Optional[str]
    globals: tuple[str, ...] = ()

    @classmethod
    def of(cls, thing: Any, origin: str = "installed") -> Fingerprint:
        """The fingerprint of a function, method or class as it is now."""
        function = plain(thing)
        return cls(origin, parameters_of(function), body_of(function), globals_of(function))

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Fingerprint:
        """From the JSON of `to_json`."""
        return cls(**{**values, "globals": tuple(values.get("globals", ()))})

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "globals": list(self.globals)}

    def same_code(self, other: Fingerprint) -> bool:
        """Whether both are the same code, wherever it was read."""
        return (self.parameters, self.body) == (other.parameters, other.body)


def plain(thing: Any) -> Any:
    """The function inside a static or class method; anything else as it is."""
    return getattr(thing, "__func__", thing)


def parameters_of(thing: Any) -> Optional[str]:
    """`a, b=, *args, c=, **kwargs`: names, order and kinds, not the default values."""
    try:
        signature = inspect.signature(thing, follow_wrapped=False)
    except (TypeError, ValueError):
        return None
    blank = [
        one.replace(
            annotation=inspect.Parameter.empty,
            default=_Blank() if one.default is not inspect.Parameter.empty else one.default,
        )
        for one in signature.parameters.values()
    ]
    return str(inspect.Signature(blank))[1:-1]


def body_of(thing: Any) -> Optional[str]:
    """Digest of the source as it is written in its file; None if there is no source to read.

    A wrapper is itself, not what it wraps, so a function that somebody else patched is unknown.
    """
    try:
        source = textwrap.dedent(inspect.getsource(getattr(thing, "__code__", thing)))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError):
        return None
    return hashlib.sha256(_canonical(tree.body[0]).encode()).hexdigest()[:DIGITS]


def globals_of(thing: Any) -> tuple[str, ...]:
    """Names that a function's code, and the functions inside it, look up outside of it."""
    code = getattr(thing, "__code__", None)
    if not isinstance(code, CodeType):
        return ()
    found, waiting = set(), [code]
    while waiting:
        code = waiting.pop()
        found.update(code.co_names)
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return tuple(sorted(found & set(plain(thing).__globals__)))


class _Blank:
    def __repr__(self) -> str:
        return ""


def _canonical(node: Any) -> str:
    """A syntax tree as text: node names and their non-empty fields, in alphabetical order."""
    if isinstance(node, ast.AST):
        fields = [
            f"{name}={_canonical(value)}"
            for name, value in sorted(ast.iter_fields(node))
            if name not in _SKIPPED and value not in (None, [])
            for value in (_without_docstring(node, name, value),)
        ]
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_canonical, node))}]"
    return repr(node)


def _without_docstring(node: ast.AST, name: str, value: Any) -> Any:
    owners = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    if name == "body" and isinstance(node, owners) and ast.get_docstring(node) is not None:
        return value[1:]
    return value
