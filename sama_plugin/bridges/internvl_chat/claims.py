"""Which scripts are of this family, and of which tree; nothing is imported.

Both trees call their top package `internvl`, so they are told apart by a file that only one has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Optional

from sama_plugin.errors import PluginError
from sama_plugin.patching.importing import Target

SCRIPTS = ("internvl_chat_finetune", "internvl_chat_pretrain")
PREFERENCE = "internvl_chat_mpo"
Tree = Literal["internvl_chat", "internvl_chat_gpt_oss"]
TREES: dict[Tree, str] = {
    "internvl_chat_gpt_oss": "internvl/model/internvl_chat/conversation.py",
    "internvl_chat": "internvl/conversation.py",
}
"""Tree to a file that the other one lacks."""


def claims(target: Target) -> Optional[str]:
    """Why the script is one of this family's, or None.

    Raises:
        PluginError: it trains by preferences, which the plugin does not do.
    """
    package, _, script = target.module.rpartition(".")
    if package != "internvl.train" or script not in (*SCRIPTS, PREFERENCE):
        return None
    if script == PREFERENCE:
        raise PluginError(
            f"{target.file} trains by preferences (MPO), on pairs of answers; the plugin trains on "
            "single ones. Fine-tune with internvl_chat_finetune.py --plugin sama first"
        )
    return f"{script} of the tree {tree_of(target.root)}"


def tree_of(root: Optional[Path]) -> Tree:
    """Which tree lies at `root`.

    Raises:
        PluginError: neither.
    """
    for tree, sign in TREES.items():
        if root is not None and (root / sign).is_file():
            return tree
    raise PluginError(
        f"{root} holds a package `internvl` but neither {' nor '.join(TREES.values())}; the plugin "
        "knows the trees internvl_chat and internvl_chat_gpt_oss of OpenGVLab/InternVL"
    )
