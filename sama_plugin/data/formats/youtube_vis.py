"""YouTube-VIS and LV-VIS: category and one mask a frame for every instance of a video.

One sample a video, one turn a category, one target an instance. Masks are in the instances
themselves or, for LV-VIS, in a mask dictionary keyed by annotation id (plain or wrapped).
"""

from __future__ import annotations

import os
import posixpath
from typing import Any, Iterable, Iterator, Mapping, Optional

from sama_plugin.data.formats import expressions, files
from sama_plugin.data.formats.listed_clip import ListedClip, entries_of, load_mask_dictionary
from sama_plugin.data.formats.video_expressions import frame_size
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import DataError
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.media.video import frame_files


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    masks: Optional[files.PathLike] = None,
    folders: Optional[Mapping[str, str]] = None,
) -> Iterator[Sample]:
    """Samples of an instances file; see `data.formats.Format`.

    Args:
        root: folder from which the frames' `file_names` start.
        masks: a mask dictionary to read instead of the instances' own masks.
        folders: video id, as text, to a folder below `root` in which its `file_names` start.
    """
    report, library = report or Strict(), Library(root, probe)
    content = files.load_tables(path, ("videos", "annotations", "categories"))
    dictionary = load_mask_dictionary(masks) if masks else None
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    instances: dict[Any, list] = {}
    for entry in content["annotations"]:
        instances.setdefault(entry.get("video_id"), []).append(entry)
    for video in content["videos"]:
        local = RecordReport(report, str(path), video.get("id"))
        try:
            clip = _clip(video, (folders or {}).get(str(video["id"]), ""), library)
        except MALFORMED as error:
            local.drop(error)
            continue
        tracks: dict[str, list] = {}
        for entry in instances.get(video["id"], ()):
            try:
                own = entry["segmentations"] if dictionary is None else None
                found = own if own is not None else entries_of(dictionary, entry["id"])
                tracks.setdefault(names[entry["category_id"]], []).append(clip.track(found))
            except MALFORMED as error:
                local.drop(error, f"annotations id {entry.get('id')}")
        if tracks:
            turns = tuple(expressions.instances(name, found) for name, found in tracks.items())
            yield Sample(str(video["id"]), clip.media, turns, source=str(path)).validate()


def _clip(video: Mapping[str, Any], folder: str, library: Library) -> ListedClip:
    file_names = video["file_names"]
    stems = [posixpath.splitext(posixpath.basename(name))[0] for name in file_names]
    place = posixpath.join(folder, posixpath.dirname(file_names[0]))
    return ListedClip(place, stems, library, frame_size(video))


def write(samples: Iterable[Sample], path: files.PathLike, root: files.PathLike) -> int:
    """Write the targets of video samples; returns the number of instances.

    Phrases become categories. Media must be frame folders below `root`, or videos, whose frames are
    then named NAME/00000.jpg. Unknown masks are written as null, as this layout has no other word.

    Raises:
        DataError: a sample is not about a video, or a target has no mask.
    """
    videos: dict[str, dict[str, Any]] = {}
    categories: dict[str, int] = {}
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        for target in sample.targets:
            track = target.track
            if sample.media.kind != "video" or track is None:
                raise DataError(
                    "only masks in a video can be written",
                    record=sample.id,
                    found=sample.media.kind,
                    reason="wrong_media" if track else "all_masks_absent",
                )
            source = sample.media.sources[0]
            if source not in videos:
                videos[source] = _video_row(source, len(videos) + 1, track, root)
            category = categories.setdefault(target.phrase, len(categories) + 1)
            row = {"id": len(annotations) + 1, "video_id": videos[source]["id"]}
            rles = [track.rles.get(frame) for frame in range(track.total)]
            annotations.append({**row, "category_id": category, "segmentations": rles})
    names = [{"id": number, "name": name} for name, number in categories.items()]
    tables = {"videos": list(videos.values()), "annotations": annotations, "categories": names}
    files.write_json(path, tables)
    return len(annotations)


def _video_row(source: str, number: int, track: MaskTrack, root: files.PathLike) -> dict[str, Any]:
    name = posixpath.splitext(files.relative(source, root))[0]
    if os.path.isdir(source):
        frames = [f"{name}/{file.name}" for file in frame_files(source)]
    else:
        frames = [f"{name}/{frame:05d}.jpg" for frame in range(track.total)]
    height, width = track.size
    return {
        "id": number,
        "width": width,
        "height": height,
        "length": track.total,
        "file_names": frames,
    }
