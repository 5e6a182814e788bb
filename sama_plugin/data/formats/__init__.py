"""One file a dataset: `read(path, root, ...)` yields canonical Samples, `write` makes files of the
same layout.

Parsers are pure: no torch, no tokenizer, no decoding. What is bad goes to a `Report`. A new dataset
is one file here and one line in the table, or an entry point in the group `sama_plugin.formats`.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Protocol, Union

from sama_plugin.data.report import MALFORMED, Report
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import ConfigError, DataError, SamaError
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
        "gcg": "sama_plugin.data.formats.gcg",
        "lvvis": "sama_plugin.data.formats.lvvis",
        "mevis": "sama_plugin.data.formats.mevis",
        "osprey": "sama_plugin.data.formats.osprey",
        "ref_sav": "sama_plugin.data.formats.ref_sav",
        "refcoco": "sama_plugin.data.formats.refcoco",
        "revos": "sama_plugin.data.formats.revos",
        "sa2va_finetune": "sama_plugin.data.formats.sa2va_finetune",
        "sa_v": "sama_plugin.data.formats.sa_v",
        "videorefer_vl3": "sama_plugin.data.formats.videorefer_vl3",
        "vidstg": "sama_plugin.data.formats.vidstg",
        "youtube_vis": "sama_plugin.data.formats.youtube_vis",
        "coco": "sama_plugin.data.formats.coco",
        "cvat": "sama_plugin.data.formats.cvat",
        "hc_stvg": "sama_plugin.data.formats.hc_stvg",
        "label_studio": "sama_plugin.data.formats.label_studio",
        "chat_univi": "sama_plugin.data.formats.llava",
        "llava": "sama_plugin.data.formats.llava",
        "png_masks": "sama_plugin.data.formats.png_masks",
        "polygons": "sama_plugin.data.formats.polygons",
        "reasonvos": "sama_plugin.data.formats.reasonvos",
        "ref_davis17": "sama_plugin.data.formats.ref_davis17",
        "swift_objects": "sama_plugin.data.formats.swift_objects",
    },
)


def read_samples(
    name: str, path: Union[str, Path], root: Union[str, Path], report: Report, **options: Any
) -> Iterator[Sample]:
    """Samples of an annotation file in the format of this name.

    Raises:
        ConfigError: unknown format or option. DataError: the report refuses a record, or the file
            as a whole has another layout (`bad_layout`).
    """
    module = FORMATS.get(name)
    _check_options(name, module, options)
    try:
        yield from module.read(path, root, report=report, **options)
    except SamaError:
        raise
    except MALFORMED as error:
        raise DataError(
            f"the file is not laid out as {name} ({type(error).__name__}: {error})",
            file=str(path),
            reason="bad_layout",
        ) from error


def _check_options(name: str, module: Any, options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(module.read).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return  # handed on to another format
    known = sorted({one.name for one in parameters} - {"path", "root", "report"})
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"format {name} has no option {unknown[0]!r}; known: {', '.join(known)}")


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
