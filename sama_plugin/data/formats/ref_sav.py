"""Ref-SAV: a long description and short phrases for the objects of SA-V clips.

Records name mp4 and masklet file below a root folder of their own (`sav_root`), which is dropped
where it does not exist. Object keys are columns of the masklets (see `sa_v`).
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional

from sama_plugin.data.formats import expressions, files, sa_v
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict, count_entries
from sama_plugin.dialog.sample import Media, Sample, Turn
from sama_plugin.errors import ConfigError, DataError
from sama_plugin.media.tracks import MaskTrack

WORDINGS = ("long", "short", "both")


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    wording: str = "both",
    expressions_per_sample: int = 5,
) -> Iterator[Sample]:
    """Samples of a Ref-SAV file; see `data.formats.Format`.

    Args:
        root: folder that holds `sav_train` (videos and masklets side by side).
        wording: "long" (one description an object), "short" (its phrases) or "both".
        expressions_per_sample: consecutive expressions of a video that share a conversation.
    """
    if wording not in WORDINGS:
        raise ConfigError(f"unknown wording {wording!r} of ref_sav; known: {', '.join(WORDINGS)}")
    report, library = report or Strict(), Library(root, probe)
    for name, record in files.load_mapping(path).items():
        local = RecordReport(report, str(path), name, _asked(record, wording))
        try:
            source = _find(record["video_path"], library)
            tracks = dict(sa_v.tracks(_find(record["anno_path"], library), source, library))
            turns = list(_turns(record, tracks, wording, local))
        except MALFORMED as error:
            local.drop(error)
            continue
        media = Media("video", source, sa_v.STRIDE)
        for start in range(0, len(turns), expressions_per_sample):
            group = tuple(turns[start : start + expressions_per_sample])
            yield Sample(f"{name}#{start}", media, group, source=str(path)).validate()


def _asked(record: Any, wording: str) -> int:
    """Expressions of a record, as far as it can be told."""
    found = record.get("objects") if isinstance(record, Mapping) else None
    objects = list(found.values()) if isinstance(found, Mapping) else []
    short = sum(count_entries(entry, "short_caps") for entry in objects) if wording != "long" else 0
    return short + (len(objects) if wording != "short" else 0)


def _turns(
    record: Mapping[str, Any], tracks: Mapping[int, MaskTrack], wording: str, local: RecordReport
) -> Iterator[Turn]:
    for key, entry in record["objects"].items():
        texts = [entry.get("formated")] if wording != "short" else []
        texts += entry.get("short_caps") or [] if wording != "long" else []
        for text in texts:
            try:
                if not text or not text.strip():
                    raise DataError("the expression is empty", reason="empty_expression")
                if not key.isdigit() or int(key) not in tracks:
                    raise DataError(
                        "the object has no masklet", found=key, reason="missing_mask_id"
                    )
                yield expressions.turn(text, tracks[int(key)])
            except MALFORMED as error:
                local.drop(error, f"objects[{key!r}]")


def _find(name: str, library: Library) -> str:
    _, _, rest = name.partition("/")
    return library.find(rest if rest and not (library.root / name).exists() else name)
