"""MeViS: motion expressions, `anno_id` into `mask_dict.json`; the valid split has no masks.

Used as training data, and by the benchmark for its open questions.
"""

from __future__ import annotations

from sama_plugin.data.formats.video_expressions import read

__all__ = ["read"]
