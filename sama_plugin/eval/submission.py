"""Zips for the servers of MeViS and Ref-YouTube-VOS: one picture a listed frame of an expression.

    [Annotations/]VIDEO/EXPRESSION/FRAME.png      8 bits, 0 and 255, the size of the video

Frames that the benchmark lists but the model gave no mask for are black, because servers want every
file. `read_submission` reads a zip back and says what is missing, so that a mistake is found before
it costs one of the few submissions a day.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence, Union

import numpy as np
from PIL import Image

from sama_plugin.atomic import atomic_path
from sama_plugin.data.formats.video_expressions import videos
from sama_plugin.data.library import Library
from sama_plugin.errors import DataError
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.cases import Case
from sama_plugin.eval.expression_masks import union
from sama_plugin.media.video import open_video

SUBMISSION = "submission.zip"
WHITE = 255
_STORED = (2000, 1, 1, 0, 0, 0)
"""One date for all files, so that equal masks make equal zips."""


@dataclass(frozen=True)
class Listed:
    """An expression's frames, as (file stem, source frame), and its place in the zip."""

    video: str
    expression: str
    stems: tuple[str, ...]
    frames: tuple[int, ...]


def write_submission(
    cases: Sequence[Case], predictions: Mapping[str, Prediction], path: Path, *, folder: str
) -> int:
    """Write the zip of all cases; returns the number of pictures.

    Args:
        folder: what the video folders lie in, "" for the top.
    """
    count = 0
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as file,
    ):
        for case in cases:
            listed = listed_frames(case)
            for stem, mask in zip(listed.stems, _masks(case, listed, predictions[case.key])):
                parts = [folder, listed.video, listed.expression, f"{stem}.png"]
                name = "/".join(part for part in parts if part)
                file.writestr(zipfile.ZipInfo(name, _STORED), _png(mask))
                count += 1
    return count


def read_submission(path: Union[str, Path], folder: str = "") -> dict[tuple[str, str, str], Any]:
    """(video, expression, frame stem) to bool (H, W), of a zip.

    Raises:
        DataError: a file lies elsewhere, or is no picture of 0 and 255.
    """
    found = {}
    start = f"{folder}/" if folder else ""
    with zipfile.ZipFile(path) as file:
        for name in file.namelist():
            parts = name[len(start) :].split("/")
            if not name.startswith(start) or len(parts) != 3 or not name.endswith(".png"):
                raise DataError(
                    "a file of the zip is in the wrong place",
                    file=str(path),
                    found=name,
                    expected=f"{start}VIDEO/EXPRESSION/FRAME.png",
                )
            pixels = np.asarray(Image.open(io.BytesIO(file.read(name))))
            if pixels.ndim != 2 or not np.isin(pixels, (0, WHITE)).all():
                raise DataError(
                    "a mask is not 0 and 255 in one channel", file=str(path), found=name
                )
            found[parts[0], parts[1], parts[2][: -len(".png")]] = pixels > 0
    return found


def listed_frames(case: Case) -> Listed:
    """Which frames of which expression a case is about, from its annotation file."""
    video, _, expression = case.sample.id.rpartition("#")
    record = videos(case.sample.source)[video]
    stems = tuple(sorted(map(str, record["frames"])))
    source = str(case.sample.media.source)
    if Path(source).is_dir():
        numbers = Library(Path(source).parent).frame_numbers(source)
        return Listed(video, expression, stems, tuple(numbers[stem] for stem in stems))
    return Listed(video, expression, stems, tuple(map(int, stems)))


def _masks(case: Case, listed: Listed, prediction: Prediction) -> Iterator[np.ndarray]:
    """bool (H, W) of every listed frame."""
    size = prediction.tracks[0].size if prediction.tracks else _size(case)
    for frame in listed.frames:
        yield union(prediction.tracks, [frame], size)[0]


def _size(case: Case) -> tuple[int, int]:
    reader = open_video(case.sample.media.source)
    try:
        return reader.size
    finally:
        reader.close()


def _png(mask: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * WHITE).save(stream, format="PNG")
    return stream.getvalue()
