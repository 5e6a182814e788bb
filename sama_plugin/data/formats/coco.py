"""COCO instances: an image, and polygons or RLE for every object. Written and read.

One sample an image, one turn a category, one target an instance. An annotation with a `caption` is
asked for by it, alone. Boxes without a segmentation are dropped: nothing says where their pixels
are. Crowds (`iscrowd`) are one object.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Iterable, Iterator, Mapping, Optional

from sama_plugin.data.formats import expressions, files
from sama_plugin.data.formats.image_expressions import image_samples, image_track
from sama_plugin.data.formats.video_expressions import frame_size
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict
from sama_plugin.dialog.sample import Media, Sample, Turn
from sama_plugin.errors import DataError
from sama_plugin.media import masks
from sama_plugin.media.tracks import MaskTrack

TABLES = ("images", "annotations", "categories")


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    turns_per_sample: int = 5,
) -> Iterator[Sample]:
    """Samples of an instances file; `root` is the image folder; see `data.formats.Format`."""
    report, library = report or Strict(), Library(root, probe)
    content = files.load_tables(path, TABLES)
    names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    found: dict[Any, list] = defaultdict(list)
    for annotation in content["annotations"]:
        found[annotation.get("image_id")].append(annotation)
    for image in content["images"]:
        local = RecordReport(report, str(path), image["id"])
        try:
            media = Media("image", library.find(image.get("file_name"), field="file_name"))
            size = frame_size(image) or library.size(media.source)
        except MALFORMED as error:
            local.drop(error)
            continue
        turns = _turns(found[image["id"]], names, size, local)
        named = [(f"{image['id']}#{number}", turn) for number, turn in enumerate(turns)]
        yield from image_samples(media, named, turns_per_sample, str(path))


def write(samples: Iterable[Sample], path: files.PathLike, root: files.PathLike) -> int:
    """Write the targets of image samples as COCO; returns the number of annotations.

    Phrases become categories; conversations and regions are not part of COCO and are left out.

    Raises:
        DataError: a sample is not about one image, or a target has no mask.
    """
    images: dict[str, dict[str, Any]] = {}
    categories: dict[str, int] = {}
    annotations = []
    for sample in samples:
        if sample.media.kind != "image":
            raise DataError(
                "COCO holds images only; `--to youtube_vis` writes videos",
                record=sample.id,
                field="media.kind",
                found=sample.media.kind,
                reason="wrong_media",
            )
        name = files.relative(sample.media.sources[0], root)
        for target in sample.targets:
            rle, (height, width) = _drawn(target.track, sample)
            size = {"file_name": name, "height": height, "width": width}
            image = images.setdefault(name, {"id": len(images) + 1, **size})
            category = categories.setdefault(target.phrase, len(categories) + 1)
            left, top, right, bottom = masks.box_of(masks.decode(rle)) or (0, 0, 0, 0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "segmentation": rle,
                    "area": masks.area(rle),
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                }
            )
    names = [{"id": number, "name": name} for name, number in categories.items()]
    tables = {"images": list(images.values()), "annotations": annotations, "categories": names}
    files.write_json(path, tables)
    return len(annotations)


def _turns(
    found: Iterable[Mapping[str, Any]],
    names: Mapping[Any, str],
    size: tuple[int, int],
    local: RecordReport,
) -> list[Turn]:
    by_category: dict[str, list] = defaultdict(list)
    captioned = []
    for annotation in found:
        where = f"annotations id {annotation['id']}"
        try:
            track = image_track(annotation["segmentation"], size)
            if track is None:
                raise DataError("nothing is drawn", reason="all_masks_absent")
            if annotation.get("caption"):
                captioned.append(expressions.turn(str(annotation["caption"]), track))
            else:
                by_category[names[annotation["category_id"]]].append(track)
        except MALFORMED as error:
            local.drop(error, where)
    return [expressions.instances(name, tracks) for name, tracks in by_category.items()] + captioned


def _drawn(track: Optional[MaskTrack], sample: Sample) -> tuple[Mapping[str, Any], tuple[int, int]]:
    rle = track.rles.get(0) if track else None
    if track is None or rle is None:
        raise DataError("a target has no mask", record=sample.id, reason="all_masks_absent")
    return rle, track.size
