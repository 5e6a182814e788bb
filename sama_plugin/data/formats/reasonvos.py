"""ReasonVOS: expressions whose object has to be inferred, with one picture a frame and expression.

Masks are in `Annotations/SOURCE_VIDEO_OBJECT/FRAME.png` beside the expressions; any value above 0
is the object. Expressions are text, or a mapping with `exp_text` and `obj_id`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Optional

from sama_plugin.data.formats import expressions, files
from sama_plugin.data.formats.listed_clip import ListedClip
from sama_plugin.data.formats.video_expressions import videos
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict, count_entries
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import DataError
from sama_plugin.media import masks
from sama_plugin.media.tracks import MaskTrack


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
) -> Iterator[Sample]:
    """One sample an expression, tagged with the dataset of its video; see `data.formats.Format`."""
    report, library = report or Strict(), Library(root, probe)
    for name, video in videos(path).items():
        local = RecordReport(report, str(path), name, count_entries(video, "expressions"))
        try:
            stems = sorted(Path(str(frame)).stem for frame in video["frames"])
            clip, source = ListedClip(name, stems, library), str(video["source"]).lower()
            entries = dict(video["expressions"])
        except MALFORMED as error:
            local.drop(error)
            continue
        for key in sorted(entries):
            entry = entries[key]
            try:
                text = str(entry.get("exp_text") or entry.get("exp") or "").strip()
                if not text:
                    raise DataError("the expression is empty", reason="empty_expression")
                drawn = f"{source}_{name}_{entry['obj_id']}"
                turn = expressions.turn(
                    text, _track(clip, Path(path).parent / "Annotations" / drawn)
                )
                yield Sample(
                    f"{name}#{key}", clip.media, (turn,), source=str(path), tags=(source,)
                ).validate()
            except MALFORMED as error:
                local.drop(error, f"expressions[{key!r}]")


def _track(clip: ListedClip, folder: Path) -> MaskTrack:
    drawn = [folder / f"{stem}.png" for stem in clip.stems]
    lost = [file for file in drawn if not file.is_file()]
    if lost:
        raise DataError(
            "an annotation picture is missing", found=str(lost[0]), reason="missing_mask_id"
        )
    return clip.track([masks.encode(files.load_labels(file) > 0) for file in drawn])
