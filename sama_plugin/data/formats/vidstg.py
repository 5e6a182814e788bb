"""VidSTG on VidOR: what a caption or a question is about, as masks on every 4th frame.

`path` is the list of captions (`*_annotations.json`: declarative and interrogative sentences with
a `target_id`) or the frame list itself (`vidstg_frames.json`: one turn a category). Masks are in
a dictionary keyed "<video>_<tid>", one entry a listed frame, not a frame number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Mapping, Optional

from sama_plugin.data.formats import expressions, files
from sama_plugin.data.formats.listed_clip import ListedClip, entries_of, load_mask_dictionary
from sama_plugin.data.formats.video_expressions import frame_size
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, Strict, count_entries
from sama_plugin.dialog.sample import Sample, Turn
from sama_plugin.errors import DataError

FRAMES = "vidstg_frames.json"


def read(
    path: files.PathLike,
    root: files.PathLike,
    *,
    report: Optional[Report] = None,
    probe: bool = True,
    masks: Optional[files.PathLike] = None,
    frames: Optional[files.PathLike] = None,
) -> Iterator[Sample]:
    """Samples of VidSTG; see `data.formats.Format`.

    Args:
        root: folder that holds one folder of extracted frames a video.
        masks: the mask dictionary (default: `VidSTG_mask_dict*.json` or `.pkl` beside `path`).
        frames: the frame list (default: `vidstg_frames.json` beside `path`).
    """
    report, library = report or Strict(), Library(root, probe)
    dictionary = load_mask_dictionary(masks or _dictionary(Path(path).parent))
    content = files.load_json(path)
    listed = content
    if isinstance(content, list):
        listed = files.load_json(frames or Path(path).with_name(FRAMES))
    records = content if isinstance(content, list) else list(content.values())
    for number, record in enumerate(records):
        name = str(record.get("vid") or record.get("video_id") or number)
        turns_here = count_entries(record, "captions", "questions")
        local = RecordReport(report, str(path), name, turns_here)
        try:
            clip = _clip(name, listed, library)
            turns = _captions(record, name, clip, dictionary, local)
            if content is listed:
                turns = _categories(record, name, clip, dictionary, local)
        except MALFORMED as error:
            local.drop(error)
            continue
        if turns:
            sample_id = name if content is listed else f"{name}#{number}"
            yield Sample(sample_id, clip.media, tuple(turns), source=str(path)).validate()


def _clip(name: str, listed: Mapping[str, Any], library: Library) -> ListedClip:
    if name not in listed:
        raise DataError("the video is not in the frame list", found=name, reason="missing_media")
    video = listed[name]
    stems = [frame["raw_filename"].rsplit(".", 1)[0] for frame in video["frames"]]
    return ListedClip(name, stems, library, frame_size(video))


def _captions(record, name, clip, dictionary, local: RecordReport) -> list[Turn]:
    turns = []
    for kind in ("captions", "questions"):
        for index, entry in enumerate(record.get(kind) or ()):
            try:
                text = str(entry.get("description") or "").strip()
                if not text:
                    raise DataError("the expression is empty", reason="empty_expression")
                found = entries_of(dictionary, f"{name}_{entry['target_id']}")
                turns.append(expressions.turn(text, clip.track(found)))
            except MALFORMED as error:
                local.drop(error, f"{kind}[{index}]")
    return turns


def _categories(record, name, clip, dictionary, local: RecordReport) -> list[Turn]:
    tracks: dict[str, list] = {}
    for index, entry in enumerate(record["subject/objects"]):
        try:
            found = entries_of(dictionary, f"{name}_{entry['tid']}")
            tracks.setdefault(entry["category"], []).append(clip.track(found))
        except MALFORMED as error:
            local.drop(error, f"subject/objects[{index}]")
    return [expressions.instances(category, found) for category, found in tracks.items()]


def _dictionary(folder: Path) -> Path:
    found = [
        file
        for file in sorted(folder.glob("VidSTG_mask_dict*"))
        if file.suffix in (".json", ".pkl")
    ]
    if not found:
        raise DataError(
            "no VidSTG mask dictionary",
            file=str(folder),
            expected="a file VidSTG_mask_dict*.json or .pkl",
            reason="missing_file",
        )
    return found[0]
