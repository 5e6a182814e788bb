"""What `sama doctor SCRIPT` says about a script of this family: tree, shims, each patch."""

from __future__ import annotations

import importlib

from sama_plugin.bridges.internvl_chat.claims import tree_of
from sama_plugin.bridges.internvl_chat.patches import known_patches
from sama_plugin.bridges.internvl_chat.prepare import Preparation
from sama_plugin.hosts.internvl_chat import shims
from sama_plugin.model.config import SamaConfig
from sama_plugin.patching.checks import Check
from sama_plugin.patching.importing import Target, imported
from sama_plugin.patching.launch import LaunchOptions
from sama_plugin.patching.ledger import Ledger
from sama_plugin.patching.patch import State, apply, state

STATES = {"known": "ok", "applied": "ok", "unverified": "warning"}


def script_checks(target: Target) -> list[Check]:
    """Imports the script, changes nothing that lasts."""
    tree = tree_of(target.root)
    checks = [Check("tree", "ok", f"{tree} at {target.root}")]
    with Ledger() as ledger:
        try:
            apply(shims.library_shims(), ledger)
            with shims.placeholders() as missing, imported(target) as script:
                patches = shims.tree_shims()
                importlib.import_module("internvl.model.internvl_chat")
        except Exception as error:  # whatever the first lines of somebody else's script raise
            said = f"the script cannot be imported: {type(error).__name__}: {error}"
            return [*checks, Check("import", "error", said)]
        checks += [Check(f"package {name}", "warning", _without(name)) for name in missing]
        checks += [Check("shim", "ok", str(change)) for change in ledger.changes]
        preparation = Preparation(SamaConfig(), None, None, Ledger())
        patches += known_patches(script, tree, preparation, LaunchOptions())
        return checks + [_check(state(patch)) for patch in patches]


def _check(found: State) -> Check:
    verdict = STATES.get(found.verdict, "error")
    said = f"{found.verdict} ({found.found}); {found.patch.target}: {found.patch.why}"
    return Check(f"patch {found.patch.id}", verdict, said)


def _without(name: str) -> str:
    return f"{name} is not installed; names stand in for it at import, a call of one is an error"
