"""What transformers raises for a checkpoint that it cannot load, and what it lets pass.

A missing folder, an unknown class, a damaged index, weights of other shapes or half a file: each
has its own exception. All of them end as one error that names the host. Tensors that a checkpoint
lacks would be drawn at random with a line in the log, and tensors that the model has no place for
(layers or biases that `config.json` does not know) would be left out with another; here both are
errors. What older versions saved and every version computes is let pass, beside what transformers
itself ignores for a class. Used wherever a host is loaded: `train/host.py`, `infer/load.py`,
`remote_code/load.py`.
"""

from __future__ import annotations

import re
from typing import Any, Optional

from safetensors import SafetensorError

from sama_plugin.errors import HostError

UNLOADABLE = (
    *(OSError, ValueError, ImportError, RuntimeError),
    *(KeyError, TypeError, AttributeError, SafetensorError),
)


COMPUTED = re.compile(r"(^|\.)(inv_freq|position_ids)$")
"""Buffers that depend on sizes alone, in checkpoints of older versions."""


def load_whole(path: str, kind: Optional[Any] = None, **options: Any) -> Any:
    """The host of a folder or hub id, with every tensor of the checkpoint and no other.

    Args:
        kind: class that loads it; by default transformers' own for images and text.
        options: of `from_pretrained`.

    Raises:
        HostError: the checkpoint lacks tensors, or has some that its model has no place for. What
        `UNLOADABLE` names: transformers cannot load it.
    """
    if kind is None:
        from transformers import AutoModelForImageTextToText as kind

    host, info = kind.from_pretrained(path, output_loading_info=True, **options)
    missing = sorted(info["missing_keys"])
    if missing:
        raise HostError(
            f"the checkpoint lacks {len(missing)} tensor(s) of a {type(host).__name__}: "
            f"{', '.join(missing[:4])}; is a shard missing? Copy it again"
        )
    extra = sorted(name for name in info["unexpected_keys"] if not COMPUTED.search(name))
    if extra:
        raise HostError(
            f"the checkpoint has {len(extra)} tensor(s) that a {type(host).__name__} of its "
            f"config.json has no place for: {', '.join(extra[:4])}. Take the config.json that was "
            "saved with these weights; if they are left over from another tool, load the host "
            "with transformers and save it again, which drops them"
        )
    return host
