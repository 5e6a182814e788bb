"""What transformers raises for a checkpoint that it cannot load, and what it lets pass.

A missing folder, an unknown class, a damaged index, weights of other shapes or half a file: each
has its own exception. All of them end as one error that names the host. Tensors that a checkpoint
lacks would be drawn at random with a line in the log; here they are an error too. Used wherever a
host is loaded: `train/host.py`, `infer/load.py`, `remote_code/load.py`.
"""

from __future__ import annotations

from typing import Any

from safetensors import SafetensorError

from sama_plugin.errors import HostError

UNLOADABLE = (
    *(OSError, ValueError, ImportError, RuntimeError),
    *(KeyError, TypeError, AttributeError, SafetensorError),
)


def load_whole(path: str, **options: Any) -> Any:
    """The native host of a folder or hub id, every tensor of it read from the checkpoint.

    Args:
        options: of `from_pretrained`.

    Raises:
        HostError: the checkpoint lacks tensors. What `UNLOADABLE` names: transformers cannot load
        it.
    """
    from transformers import AutoModelForImageTextToText

    loaded = AutoModelForImageTextToText.from_pretrained(path, output_loading_info=True, **options)
    host, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise HostError(
            f"the checkpoint lacks {len(missing)} tensor(s) of a {type(host).__name__}: "
            f"{', '.join(missing[:4])}; is a shard missing? Copy it again"
        )
    return host
