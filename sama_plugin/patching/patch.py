"""One change of somebody else's code, with the reason for it and the code it was written against.

A `Patch` names a binding, `module:name` or `module:Class.name`, and how it is changed: *wrap* what
is there, *replace* it, or *add* what is missing. `apply` looks before it changes anything:

- the binding must be known code (`fingerprint.py`) or be let through by name;
- the code that reads the binding must still read it (`needs`), or the patch would do nothing;
- another patch on the same binding, or a copy of the original that somebody imported by name, is an
  error, unless the patch says that copies keep the original on purpose;
- nothing of torch or of Python itself is ever touched.

A patch that is applied already is not applied again. Bridges list their patches; `sama doctor`
shows the same list with `state`.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from dataclasses import dataclass, field
from types import MethodType, ModuleType
from typing import Any, Callable, Iterable, Literal, Optional, Sequence

from sama_plugin.errors import PluginError
from sama_plugin.patching.fingerprint import Fingerprint, globals_of, plain
from sama_plugin.patching.ledger import ABSENT, Ledger, describe
from sama_plugin.registry import nearest

MARK = "__sama_patch__"
NEVER = frozenset({"torch", "torchvision", "builtins", "_thread", "sys", *sys.builtin_module_names})
"""Packages that no patch may touch: too much else runs on them."""

Verdict = Literal["known", "applied", "unverified", "missing", "conflict"]


@dataclass(frozen=True)
class Patch:
    """A change to one binding.

    Attributes:
        id: short and stable; what `--plugin.allow-unverified` names.
        target: "module:name" or "module:Class.name".
        why: one line for the ledger.
        make: the original (None for "add") to what takes its place.
        kind: "wrap", "replace" or "add"; an "add" needs the binding to be absent.
        known: code this was written against; empty: any code will do (a name is only rebound).
        needs: ("module:function", name): code that must look the name up, or nothing would change.
        copies: "refuse" if a module that imported the original by name would make the patch
            useless; "keep" if only this binding is meant.
    """

    id: str
    target: str
    why: str
    make: Callable[[Any], Any] = field(compare=False)
    kind: Literal["wrap", "replace", "add"] = "wrap"
    known: tuple[Fingerprint, ...] = ()
    needs: Optional[tuple[str, str]] = None
    copies: Literal["refuse", "keep"] = "keep"


@dataclass(frozen=True)
class State:
    """How a patch stands against what is loaded: verdict, and what was found in words."""

    patch: Patch
    verdict: Verdict
    found: str


def apply(patches: Iterable[Patch], ledger: Ledger, allow: Sequence[str] = ()) -> None:
    """Apply all patches or none.

    Args:
        allow: ids of patches that may be applied to code that was never read; each is recorded.

    Raises:
        PluginError: unknown code, a conflict, a missing binding, or an id in `allow` that is none.
    """
    patches = list(patches)
    _check_ids(patches, allow)
    states = [state(patch) for patch in patches]
    wrong = [one for one in states if one.verdict in ("missing", "conflict")]
    wrong += [one for one in states if one.verdict == "unverified" and one.patch.id not in allow]
    if wrong:
        raise PluginError("\n".join(["the plugin cannot be installed here:", *map(_advice, wrong)]))
    for one in states:
        if one.verdict == "applied":
            continue
        if one.verdict == "unverified":
            ledger.note(one.patch.target, f"not verified, {one.patch.id}: {one.found}", "allowed")
        _install(one.patch, ledger)


def state(patch: Patch) -> State:
    """How `patch` stands, without changing anything but importing its module."""
    owner, name = resolve(patch.target)
    present = vars(owner).get(name, getattr(owner, name, ABSENT))
    mark = _mark(present)
    if mark == patch.id:
        return State(patch, "applied", "applied by this plugin")
    if mark is not None:
        return State(patch, "conflict", f"patched by {mark} already; one binding, one patch")
    if (present is ABSENT) != (patch.kind == "add"):
        return _absent(patch, present)
    missing = _unread(patch)
    if missing is not None:
        return State(patch, "unverified", missing)
    if patch.copies == "refuse":
        copies = copies_of(present, (owner, name))
        if copies:
            found = f"{', '.join(copies)} imported the original by name and would keep using it"
            return State(patch, "conflict", found)
    if not patch.known:
        return State(patch, "known", "only rebound; any version")
    return _compared(patch, present)


def resolve(target: str) -> tuple[Any, str]:
    """ "module:Class.name" as (owner, name); the module is imported.

    Raises:
        PluginError: no such module or class, or one that must not be touched.
    """
    module_name, _, path = target.partition(":")
    *outer, name = path.split(".")
    try:
        owner: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise PluginError(f"cannot patch {target}: {error}") from error
    for step in outer:
        if not hasattr(owner, step):
            raise PluginError(f"cannot patch {target}: {describe(owner)} has no {step!r}")
        owner = getattr(owner, step)
    _refuse_foundations(target, owner)
    return owner, name


def copies_of(original: Any, binding: tuple[Any, str]) -> list[str]:
    """Other modules' globals, as "module.name", that hold `original` itself (`from x import y`)."""
    if not callable(plain(original)):
        return []
    found = []
    for module in list(sys.modules.values()):
        if not isinstance(module, ModuleType) or module is binding[0]:
            continue
        names = [name for name, value in list(vars(module).items()) if value is original]
        found += [f"{module.__name__}.{name}" for name in names]
    return sorted(found)


def _install(patch: Patch, ledger: Ledger) -> None:
    owner, name = resolve(patch.target)
    if patch.kind == "add":
        ledger.put(owner, name, _marked(patch, patch.make(None)), patch.why, "added")
        return
    present = vars(owner).get(name, getattr(owner, name))
    descriptor = type(present) if isinstance(present, (staticmethod, classmethod)) else None
    if isinstance(present, MethodType) and present.__self__ is owner:
        descriptor = classmethod  # inherited from a base class
    made = _marked(patch, patch.make(plain(present)))
    verb = "wrapped" if patch.kind == "wrap" else "replaced"
    ledger.put(owner, name, made if descriptor is None else descriptor(made), patch.why, verb)


def _marked(patch: Patch, made: Any) -> Any:
    """`made`, recognisable as this patch's work; values that take no attributes stay as they are.

    The mark holds whose it is, because `functools.wraps` and inheritance pass attributes on.
    """
    if callable(made):
        setattr(made, MARK, (patch.id, id(made)))
    return made


def _mark(present: Any) -> Optional[str]:
    """Id of the patch that made `present`."""
    name, owner = getattr(plain(present), MARK, (None, None))
    return name if owner == id(plain(present)) else None


def _absent(patch: Patch, present: Any) -> State:
    if present is ABSENT:
        return State(patch, "missing", "there is no such name in the installed version")
    origin = getattr(plain(present), "__module__", None) or type(present).__name__
    return State(patch, "conflict", f"the host has its own by now (from {origin})")


def _unread(patch: Patch) -> Optional[str]:
    """What is wrong with the code that should look the binding up; None if it does."""
    if patch.needs is None:
        return None
    reader, name = patch.needs
    owner, function = resolve(reader)
    code = getattr(owner, function, None)
    if code is None:
        return f"{reader} is gone, which should use {name}"
    return None if name in globals_of(plain(code)) else f"{reader} no longer uses {name}"


def _compared(patch: Patch, present: Any) -> State:
    now = Fingerprint.of(present)
    for known in patch.known:
        if now.same_code(known):
            return State(patch, "known", known.origin)
    origin = getattr(plain(present), "__module__", "?")
    source, _, path = patch.target.partition(":")
    foreign = f", put there by {origin}" if not origin.startswith(source.split(".")[0]) else ""
    read = ", ".join(dict.fromkeys(known.origin for known in patch.known))
    return State(
        patch, "unverified", f"code {now.body} ({now.parameters}){foreign} is none of: {read}"
    )


def _advice(one: State) -> str:
    line = f"  {one.patch.id} ({one.patch.target}): {one.found}"
    if one.verdict != "unverified":
        return line
    return (
        f"{line}. If you have read that code and the patch still fits ({one.patch.why}), pass "
        f"--plugin.allow-unverified {one.patch.id}; else check out a version named above"
    )


def _check_ids(patches: Sequence[Patch], allow: Sequence[str]) -> None:
    ids, targets = [patch.id for patch in patches], [patch.target for patch in patches]
    for values in (ids, targets):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise PluginError(f"two patches for {', '.join(twice)}; one binding, one patch")
    for name in allow:
        if name not in ids:
            raise PluginError(
                f"--plugin.allow-unverified {name}: no such patch{nearest(name, ids)}; known: "
                f"{', '.join(ids)}"
            )


def _refuse_foundations(target: str, owner: Any) -> None:
    module = owner.__name__ if isinstance(owner, ModuleType) else getattr(owner, "__module__", "")
    if module.split(".")[0] in NEVER or owner is builtins:
        raise PluginError(f"{target} belongs to {module}, which no patch may touch")
