"""lmms-eval: our models in its harness, and our benchmarks as its tasks.

The entry point `lmms_eval.models` makes `--model sama` known to lmms-eval. `pack.write_task` writes
a task folder for `--include_path` from a benchmark file; any model of lmms-eval can answer it (in
words alone), ours answers with masks. Nothing here is imported unless lmms-eval asks for it.
"""

from __future__ import annotations

from typing import Any

MODEL_ID = "sama"
CLASS = "sama_plugin.bridges.lmms_eval.model.SamaForLmmsEval"


def manifest() -> Any:
    """What the entry point gives lmms-eval."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=MODEL_ID, simple_class_path=CLASS)
