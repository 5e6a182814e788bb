"""RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO in the REFER layout: `refs(*)` and `instances.json`.

A reference names one annotation (gRefCOCO: several, or none, which is answered without [SEG]) and
has several sentences; all sentences become turns, grouped by image. The image's name is that of
`instances.json`, not the reference's `file_name`. An annotation that is not drawn leaves its
target without a track, and is noted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence, Union

from sama_plugin.data.formats import expressions, files
from sama_plugin.data.formats.image_expressions import image_samples
from sama_plugin.data.formats.segmentations import note_unsized, read_segmentation
from sama_plugin.data.formats.video_expressions import frame_size
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict, count_entries
from sama_plugin.dialog.sample import Media, Sample, Turn
from sama_plugin.errors import DataError
from sama_plugin.media import masks
from sama_plugin.media.tracks import MaskTrack


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    split: Union[str, Sequence[str]] = "train",
    instances: Optional[files.PathLike] = None,
    expressions_per_sample: int = 5,
) -> Iterator[Sample]:
    """Samples of a `refs(*).p` or `.json`; see `data.formats.Format`.

    Args:
        root: folder of the images.
        split: one split's name, or several.
        instances: default `instances.json` beside `path`.
        expressions_per_sample: sentences of an image that share a conversation.
    """
    report, library = report or Strict(), Library(root, probe)
    tables = files.load_tables(
        instances or Path(path).with_name("instances.json"), ("images", "annotations")
    )
    images = {image["id"]: image for image in tables["images"]}
    annotations = {annotation["id"]: annotation for annotation in tables["annotations"]}
    splits = (split,) if isinstance(split, str) else tuple(split)
    grouped: dict[Any, list] = {}
    for ref in files.load_records(path):
        try:
            belongs, image_id = _place(ref)
        except MALFORMED as error:
            count = count_entries(ref, "sentences")
            RecordReport(report, str(path), ref.get("ref_id"), count).drop(error)
            continue
        if belongs in splits:
            grouped.setdefault(image_id, []).append(ref)
    if not grouped:
        raise DataError(
            f"no reference belongs to the split {', '.join(splits)}",
            file=str(path),
            field="split",
            reason="split_without_samples",
        )
    for image_id, refs in grouped.items():
        turns: list[tuple[str, Turn]] = []
        media = None
        for ref in refs:
            local = RecordReport(
                report, str(path), ref.get("ref_id"), count_entries(ref, "sentences")
            )
            try:
                image = _image(image_id, images)
                media = Media("image", library.find(image["file_name"], field="image"))
                found, stated = _annotations(ref, annotations), frame_size(image)
                for annotation in found:
                    note_unsized(annotation.get("segmentation"), stated, local, "ann_id")
                turns += _turns(ref, found, stated or library.size(media.source), local)
            except MALFORMED as error:
                local.drop(error)
        if media and turns:
            yield from image_samples(media, turns, expressions_per_sample, str(path))


def _place(ref: Mapping[str, Any]) -> tuple[str, Union[int, str]]:
    """Split and image of a reference; one that says neither is in no split, not in another one."""
    for field, kinds in (("split", str), ("image_id", (int, str))):
        if not isinstance(ref[field], kinds):
            raise DataError("a field has the wrong kind", field=field, found=ref[field])
    return ref["split"], ref["image_id"]


def _image(number: Any, known: Mapping[Any, Any]) -> Mapping[str, Any]:
    if number not in known:
        raise DataError(
            "the image is not in instances.json",
            field="image_id",
            found=number,
            reason="missing_media",
        )
    return known[number]


def _annotations(ref: Mapping[str, Any], known: Mapping[Any, Any]) -> list[Mapping[str, Any]]:
    ids = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
    missing = [number for number in ids if number != -1 and number not in known]
    if missing:
        raise DataError(
            "the annotation is not in instances.json",
            field="ann_id",
            found=missing[0],
            reason="missing_mask_id",
        )
    return [known[number] for number in ids if number != -1]


def _turns(
    ref: Mapping[str, Any],
    found: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    local: RecordReport,
) -> list[tuple[str, Turn]]:
    rles = [read_segmentation(annotation.get("segmentation"), size) for annotation in found]
    present = [rle for rle in rles if rle is not None]
    track = None
    if present:
        track = MaskTrack(size=size, total=1, rles={0: masks.merge(present)})
    elif found:
        local.note(DataError("nothing is drawn", field="ann_id", reason="all_masks_absent"))
    turns = []
    if not isinstance(ref["sentences"], list):
        raise DataError("no list", field="sentences", found=ref["sentences"], reason="bad_field")
    for number, sentence in enumerate(ref["sentences"]):
        text = str(sentence.get("sent") or "").strip()
        if not text:
            error = DataError("the sentence is empty", reason="empty_expression")
            local.drop(error, f"sentences[{number}]")
            continue
        turn = expressions.turn(text, track) if found else expressions.absent(text)
        turns.append((f"{ref['ref_id']}#{number}", turn))
    return turns
