"""What transformers raises for a checkpoint that it cannot load.

A missing folder, an unknown class, a damaged index, weights of other shapes or half a file: each
has its own exception. All of them end as one error that names the host. Used wherever a host is
loaded: `train/host.py`, `infer/load.py`, `remote_code/load.py`.
"""

from __future__ import annotations

from safetensors import SafetensorError

UNLOADABLE = (
    *(OSError, ValueError, ImportError, RuntimeError),
    *(KeyError, TypeError, AttributeError, SafetensorError),
)
