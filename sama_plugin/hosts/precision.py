"""The keyword by which `from_pretrained` is told the number format of the weights.

transformers calls it `dtype` since 4.56 and no longer documents `torch_dtype`; before, the new name
ended in the model's constructor, which does not know it. Used wherever a host is loaded.
"""

from __future__ import annotations

from typing import Any


def dtype_option(dtype: Any) -> dict[str, Any]:
    """{name: `dtype`}, by what the installed configurations call it."""
    from transformers import PretrainedConfig

    return {"dtype" if hasattr(PretrainedConfig(), "dtype") else "torch_dtype": dtype}
