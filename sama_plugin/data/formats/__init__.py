"""One file a dataset: `read(path, root, ...)` yields canonical Samples, `write` makes files of the
same layout.

Parsers are pure: no torch, no tokenizer, no decoding. What is bad goes to a `Report`. A new dataset
is one file here and one line in the table, or an entry point in the group `sama_plugin.formats`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Optional, Protocol, Union

from sama_plugin.data.report import Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.registry import Registry

FORMATS = Registry(
    "formats",
    {
        "sama": "sama_plugin.data.formats.sama",
        "sama_239k": "sama_plugin.data.formats.sama_239k",
        "sama_bench": "sama_plugin.data.formats.sama_bench",
        "videorefer_700k": "sama_plugin.data.formats.videorefer_700k",
        "videorefer_bench": "sama_plugin.data.formats.videorefer_bench",
        "ref_youtube_vos": "sama_plugin.data.formats.ref_youtube_vos",
        "internvl_meta": "sama_plugin.data.formats.internvl_meta",
    },
)


class Format(Protocol):
    """The module of a format."""

    def read(
        self,
        path: Union[str, Path],
        root: Union[str, Path],
        *,
        report: Optional[Report] = None,
        probe: bool = True,
        **options: Any,
    ) -> Iterator[Sample]:
        """Samples of an annotation file; without a report, the first bad record raises."""
